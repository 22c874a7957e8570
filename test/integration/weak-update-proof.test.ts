import { copyFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { parseExportTerms, whyNoWeakUpdate } from '../../services/core/module/weak-updates.ts';
import { parseSymvers } from '../../services/core/module/kabi.ts';
import { parseKernelConfig, vermagicOf } from '../../services/core/kernel/kernel-config.ts';
import { readModuleFile } from '../../services/core/module/module-file.ts';
import { debianHeaders, debianKernel, newestRelease, releasesOf } from '../machine/debian.ts';
import { EXTEND_VERSIONS } from '../machine/extended-versions.ts';
import { writeTree } from '../machine/make-source.ts';
import { mustRun, run } from '../machine/run.ts';
import { refusal } from '../unit/samples.ts';

const hex = (crc: number): string => crc.toString(16).padStart(8, '0');

/** Modules of Debian's kernel, small and large, one of them with a namespace to import. */
const MODULES = [
  'net/dummy.ko',
  'block/loop.ko',
  'net/tun.ko',
  'net/virtio_net.ko',
  'usb/storage/uas.ko',
];

describe('a module of Debian’s kernel', () => {
  let release: string;
  let paths: readonly string[];

  beforeAll(async () => {
    release = await newestRelease();
    const home = join(await debianKernel(release), 'lib/modules', release);
    paths = MODULES.map((path) => join(home, 'kernel/drivers', path));
  });

  const headersOf = async (other: string): Promise<{ symvers: string; config: string }> => {
    const home = join(await debianHeaders(other), 'usr/src', `linux-headers-${other}`);
    return {
      symvers: await readFile(join(home, 'Module.symvers'), 'utf8'),
      config: await readFile(join(home, '.config'), 'utf8'),
    };
  };

  const reasonsOn = async (other: string, path: string): Promise<readonly string[] | null> => {
    const { symvers, config } = await headersOf(other);
    return whyNoWeakUpdate(readModuleFile(await readFile(path)), {
      release: other,
      arch: 'x86_64',
      vermagic: vermagicOf(other, parseKernelConfig(config)),
      exporters: [parseSymvers(symvers)],
      terms: parseExportTerms(symvers),
    });
  };

  it('fits its own', async () => {
    for (const path of paths) expect(await reasonsOn(release, path)).toBeNull();
  });

  it('fits an older ABI exactly where modprobe’s CRCs are all in its Module.symvers', async () => {
    const [, older = ''] = await releasesOf('amd64');
    const lines = new Set(
      (await headersOf(older)).symvers.split('\n').map((line) => line.split('\t', 2).join('\t')),
    );
    for (const path of paths) {
      const needed = (await mustRun('modprobe', ['--dump-modversions', path])).trim().split('\n');
      const isThere = needed.every((line) => {
        const [crc = '', symbol = ''] = line.split('\t');
        return lines.has(`0x${crc.slice(2).padStart(8, '0')}\t${symbol}`);
      });
      expect((await reasonsOn(older, path)) === null).toBe(isThere);
    }
  });

  it('is read the same with the extended CRCs of newer kernels in the place of the basic ones', async () => {
    const directory = await writeTree('extended', { 'extend.sh': EXTEND_VERSIONS });
    for (const path of paths) {
      const copy = join(directory, 'copy.ko');
      await copyFile(path, copy);
      const { status, stderr } = await run('sh', ['extend.sh', copy], { cwd: directory });
      expect([status, stderr]).toEqual([0, '']);
      const extended = readModuleFile(await readFile(copy));
      const dumped = (await mustRun('modprobe', ['--dump-modversions', path])).trim().split('\n');
      expect([...extended.versions].map(([name, crc]) => `0x${hex(crc)}\t${name}`).sort()).toEqual(
        dumped.sort(),
      );
      expect(extended).toEqual(readModuleFile(await readFile(path)));
      expect(await reasonsOn(release, copy)).toBeNull();
    }
  });

  it.each([
    [
      'names without CRCs',
      '--remove-section=__version_ext_crcs',
      /without names, or names without/,
    ],
    [
      'CRCs without names',
      '--remove-section=__version_ext_names',
      /without names, or names without/,
    ],
    [
      'fewer names than CRCs',
      '--update-section=__version_ext_names=short.bin',
      /more extended versions/,
    ],
  ])('is refused, as a kernel does, with %s', async (_, change, words) => {
    const directory = await writeTree('broken', {
      'extend.sh': EXTEND_VERSIONS,
      'short.bin': 'module_layout\0_printk',
    });
    const copy = join(directory, 'copy.ko');
    await copyFile(paths[0] ?? '', copy);
    await mustRun('sh', ['extend.sh', copy], { cwd: directory });
    await mustRun('objcopy', [change, copy], { cwd: directory });
    const bytes = await readFile(copy);
    expect(() => readModuleFile(bytes)).toThrow(refusal('unverified', words));
  });

  it('is refused where its extended CRCs are not its basic ones', async () => {
    const directory = await writeTree('both', {
      'extend.sh': EXTEND_VERSIONS.replace('--remove-section=__versions', '').replace(
        'pack("V", $crc)',
        'pack("V", $crc ^ 1)',
      ),
    });
    const copy = join(directory, 'copy.ko');
    await copyFile(paths[0] ?? '', copy);
    await mustRun('sh', ['extend.sh', copy], { cwd: directory });
    const bytes = await readFile(copy);
    expect(() => readModuleFile(bytes)).toThrow(refusal('unverified', /two tables .* differ in /));
  });

  it.each(['cloud-amd64', 'rt-amd64'])('does not fit the flavour %s', async (flavour) => {
    const [first = ''] = paths;
    expect(await reasonsOn(await newestRelease(flavour), first)).toEqual(
      expect.arrayContaining([`its flavour is ${flavour}, the module’s amd64`]),
    );
  });

  it('does not fit a newer series', async () => {
    const [first = ''] = paths;
    const newer = await newestRelease('amd64', '6.12');
    expect(await reasonsOn(newer, first)).toEqual(
      expect.arrayContaining([expect.stringMatching(/other versions \(CRCs\) of/)]),
    );
  });
});
