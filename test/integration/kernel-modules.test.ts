import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { openHost, type Host } from '../../client/host/host.ts';
import {
  compressModule,
  inTree,
  readModule,
  suffixOf,
  type Suffix,
} from '../../client/host/kernel-modules.ts';
import { debianKernel, newestRelease } from '../machine/debian.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { mustRun } from '../machine/run.ts';
import { refusal } from '../unit/samples.ts';

const DUMMY = 'kernel/drivers/net/dummy.ko';
const OTHERS = ['kernel/drivers/net/team/team_mode_random.ko', 'kernel/drivers/net/team/team.ko'];
const COMPRESSORS: readonly (readonly [Suffix, readonly string[]])[] = [
  ['.gz', ['gzip', '-n', '-f']],
  ['.xz', ['xz', '--check=crc32', '--lzma2=dict=1MiB', '-f']],
  ['.zst', ['zstd', '--rm', '-f', '-q']],
];

describe('the modules that came with a kernel', () => {
  let release: string;
  let kernel: string;

  beforeAll(async () => {
    release = await newestRelease();
    kernel = join(await debianKernel(release), 'lib/modules', release);
  });

  /** A host with three modules of Debian's kernel, as `make modules_install` compresses them, and depmod's index of them. */
  const makeHost = async (
    suffix: Suffix,
    [program, ...args]: readonly string[],
  ): Promise<{ host: Host; home: string }> => {
    const root = await freshDirectory('kernel-modules');
    const home = join(root, 'lib/modules', release);
    const paths = [DUMMY, ...OTHERS].map((path) => join(home, path));
    for (const path of paths) {
      await mkdir(dirname(path), { recursive: true });
      await copyFile(join(kernel, path.slice(home.length)), path);
    }
    for (const name of ['modules.order', 'modules.builtin'])
      await copyFile(join(kernel, name), join(home, name));
    // Debian's depmod reads no gzip.
    if (suffix === '.gz') await mustRun('depmod', ['-b', root, release]);
    if (program !== undefined) await mustRun(program, [...args, ...paths]);
    if (suffix === '.gz')
      await mustRun('sed', ['-i', 's/\\.ko\\b/.ko.gz/g', join(home, 'modules.dep')]);
    else await mustRun('depmod', ['-b', root, release]);
    return { host: await openHost(root), home };
  };

  it.each<readonly [Suffix, readonly string[]]>([['', []], ...COMPRESSORS])(
    'are found and read where they are compressed as %j',
    async (suffix, compressor) => {
      const { host, home } = await makeHost(suffix, compressor);
      const modules = await inTree(host, release);
      expect(modules.suffix).toBe(suffix);
      expect(await modules.find('dummy')).toBe(DUMMY + suffix);
      expect(await modules.find('team-mode_random')).toBe(OTHERS[0] + suffix);
      expect(await modules.find('v4l2loopback')).toBeNull();
      expect(await readModule(join(home, DUMMY + suffix))).toEqual(
        await readFile(join(kernel, DUMMY)),
      );
    },
  );

  it('are found also where another module takes the place of one', async () => {
    const { host, home } = await makeHost('.xz', ['xz']);
    await mkdir(join(home, 'updates'));
    await copyFile(join(kernel, DUMMY), join(home, 'updates/dummy.ko'));
    await mustRun('depmod', ['-b', host.root, release]);
    expect(await readFile(join(home, 'modules.dep'), 'utf8')).not.toContain(DUMMY);
    const modules = await inTree(host, release);
    expect(await modules.find('dummy')).toBe(`${DUMMY}.xz`);
    expect(modules.suffix).toBe('.xz');
    await rm(join(home, `${DUMMY}.xz`));
    expect(await modules.find('dummy')).toBeNull();
  });

  it('are found by their files where depmod was never run', async () => {
    const { host, home } = await makeHost('.xz', ['xz']);
    for (const name of ['modules.dep', 'modules.order'])
      await rm(join(home, name), { force: true });
    const modules = await inTree(host, release);
    expect(await modules.find('dummy')).toBe(`${DUMMY}.xz`);
    expect(modules.suffix).toBe('.xz');
    expect(await modules.find('v4l2loopback')).toBeNull();
  });

  it('are no paths that lead elsewhere', async () => {
    const { host, home } = await makeHost('', []);
    await writeFile(
      join(home, 'modules.dep'),
      'kernel/../../evil.ko:\nupdates/own.ko:\n/etc/abs.ko:\nkernel/sp ace.ko:\n',
    );
    const modules = await inTree(host, release);
    for (const name of ['evil', 'own', 'abs', 'ace']) expect(await modules.find(name)).toBeNull();
  });

  it.each(COMPRESSORS)(
    'are like ours once those are compressed as %s: programs and modinfo read them, and each time the bytes are the same',
    async (suffix, [program = '', ...args]) => {
      const module = join(kernel, DUMMY);
      const bytes = await readFile(module);
      const place = join(await freshDirectory('compress'), `dummy.ko${suffix}`);
      const compressed = (await compressModule(bytes, suffix)) ?? Buffer.alloc(0);
      expect(await compressModule(bytes, suffix)).toEqual(compressed);
      await writeFile(place, compressed);
      await mustRun(program, ['--test', place]);
      if (suffix !== '.gz') expect(await mustRun('modinfo', ['-F', 'name', place])).toBe('dummy\n');
      expect(await readModule(place)).toEqual(bytes);
      if (suffix === '.xz') {
        const theirs = join(dirname(place), 'theirs.ko');
        await copyFile(module, theirs);
        await mustRun(program, [...args, theirs]);
        expect(compressed).toEqual(await readFile(`${theirs}.xz`));
      }
    },
  );

  it.each(COMPRESSORS)('are refused where %s is damaged', async (suffix) => {
    const place = join(await freshDirectory('damaged'), `dummy.ko${suffix}`);
    await writeFile(place, 'no module');
    await expect(readModule(place)).rejects.toEqual(
      refusal('install-failed', /cannot be decompressed \(.+\); install its package again/),
    );
  });

  it('are uncompressed where nothing says more', () => {
    expect(['a.ko', 'a.ko.lz4', 'a.xz.ko', 'a.ko.xz'].map(suffixOf)).toEqual(['', '', '', '.xz']);
  });
});
