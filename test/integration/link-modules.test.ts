import {
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  rm,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import { UPDATE_SCRIPT } from '../../services/core/packages/common-package.ts';
import { planPackage } from '../../services/core/packages/plan-package.ts';
import type { PackagePlan } from '../../services/core/packages/plan.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { mustRun } from '../machine/run.ts';
import { moduleBytes } from '../unit/samples.ts';

/** What `kiln-modules-common` does of modules that track the kABI, in a root of its own: its scripts are the real ones, but for their places. */

const BUILT = '6.4.0-150600.23.25-default';
const OTHER = '6.4.0-150600.23.42-default';
const NEEDED = { module_layout: '0000aabb', _printk: '92997ed8', Odd: '00000001' };
const MODULE = moduleBytes(['name=camera', `vermagic=${BUILT} SMP`, 'license=GPL']);

let root: string;

const at = (...path: readonly string[]): string => join(root, ...path);
const lay = async (path: string, bytes: string | Buffer, mode = 0o644): Promise<void> => {
  await mkdir(dirname(at(path)), { recursive: true });
  await writeFile(at(path), bytes, { mode });
};
/** A kernel that is whole and exports what is needed, with these symbols otherwise. */
const kernel = async (release: string, other: Readonly<Record<string, string>> = {}) => {
  await lay(`lib/modules/${release}/modules.order`, '');
  await lay(`lib/modules/${release}/modules.builtin`, '');
  await lay(`lib/modules/${release}/symvers.gz`, gzipSync(symbols(other)));
  await lay(`boot/initrd-${release}`, '');
  await utimes(at('boot', `initrd-${release}`), 1, 1);
};
const symbols = (other: Readonly<Record<string, string>> = {}): string =>
  Object.entries({ before: '12345678', ...NEEDED, ...other })
    .map(([symbol, crc]) => `0x${crc}\t${symbol}\tvmlinux\tEXPORT_SYMBOL\t\n`)
    .join('');

const planOf = (release: string, source = 'camera'): PackagePlan =>
  planPackage('kmp', {
    kind: 'modules',
    build: '0123456789abcdef01234567',
    source: { name: source, version: '1.0' },
    kernel: { release, arch: 'x86_64', version: null },
    modules: [
      { name: 'camera', signed: digestOf(MODULE), size: 1, license: 'GPL', imports: NEEDED },
    ],
    files: [],
    needs: [],
    attestation: { digest: digestOf('attestation'), size: 11 },
    revision: 1,
  });
const install = async ({ files }: PackagePlan): Promise<void> => {
  for (const { place, content } of files)
    await lay(place, 'text' in content ? content.text : MODULE);
};
const remove = async ({ files }: PackagePlan): Promise<void> => {
  for (const { place } of files) {
    await rm(at(place));
    await mustRun('rmdir', ['-p', '--ignore-fail-on-non-empty', at(dirname(place))]);
  }
};

const PLACES =
  /(?<![\w.}])\/(?=(lib\/modules|boot|var\/lib\/kiln-modules|usr\/lib\/kiln-modules)\b)/g;
/** Runs the script as rpm and dpkg do, at the end of a run; the kernels whose index and initramfs it made. */
const update = async (): Promise<{ indexed: readonly string[]; packed: readonly string[] }> => {
  const [depmod, dracut] = [at('depmod.log'), at('dracut.log')];
  await Promise.all([depmod, dracut].map((log) => writeFile(log, '')));
  await mustRun(at(UPDATE_SCRIPT), [], {
    env: { PATH: `${at('bin')}:/usr/sbin:/usr/bin:/sbin:/bin`, LC_ALL: 'C' },
  });
  const linesOf = async (log: string): Promise<readonly string[]> =>
    (await readFile(log, 'utf8')).split('\n').filter(Boolean).sort();
  return { indexed: await linesOf(depmod), packed: await linesOf(dracut) };
};
const LINK = 'weak-updates/camera/camera.ko';
const target = (release: string): Promise<string | null> =>
  readlink(at('lib/modules', release, LINK)).catch(() => null);
const TO_BUILT = `../../../${BUILT}/updates/camera/camera.ko`;
const HOME = `lib/modules/${OTHER}`;
const NOTHING = { indexed: [], packed: [] };
/** Symbols as a kernel's package brings them. */
const packed = async (program: string, path: string): Promise<void> => {
  await lay(path, symbols());
  await mustRun(program, ['-q', ...(program === 'zstd' ? ['--rm'] : []), at(path)]);
};
const isWhole = (): Promise<boolean> =>
  lstat(at(HOME, 'modules.order')).then(
    () => true,
    () => false,
  );
/** Where modprobe finds the module on a kernel. */
const found = (release: string): Promise<string> =>
  mustRun('modinfo', ['-b', root, '-k', release, '-F', 'filename', 'camera']).then((out) =>
    out.trim(),
  );

beforeEach(async () => {
  root = await freshDirectory('link-modules');
  for (const { place, content } of planPackage('rpm', { kind: 'common' }).files)
    await lay(place, 'text' in content ? content.text.replace(PLACES, `${root}/`) : '', 0o755);
  const program = (name: string, script: string): Promise<void> =>
    lay(`bin/${name}`, `#!/bin/sh\n${script}\n`, 0o755);
  await program('depmod', `echo "$1" >>${at('depmod.log')}; exec /sbin/depmod -b ${root} "$1"`);
  await program('dracut', `echo "$3" >>${at('dracut.log')}; touch "$2"`);
  await kernel(BUILT);
});

describe('a module that tracks the kABI', () => {
  it('is there for each other kernel with the same CRCs, and is made part of index and initramfs once', async () => {
    const later = Date.now() / 1000 + 10;
    await kernel(OTHER);
    await install(planOf(BUILT));
    // The kernel's own package made it in the same run.
    await utimes(at('boot', `initrd-${BUILT}`), later, later);
    await utimes(at('boot', `initrd-${OTHER}`), later, later);
    expect(await update()).toEqual({ indexed: [BUILT, OTHER], packed: [OTHER] });
    expect([await target(BUILT), await target(OTHER)]).toEqual([null, TO_BUILT]);
    expect(await found(BUILT)).toBe(at('lib/modules', BUILT, 'updates/camera/camera.ko'));
    expect(await found(OTHER)).toBe(at('lib/modules', OTHER, LINK));
    expect(await update()).toEqual(NOTHING);
  });

  it.each<[string, (home: string) => Promise<unknown>]>([
    ['symvers', (home) => lay(`${home}/symvers`, symbols())],
    ['symvers.xz', (home) => packed('xz', `${home}/symvers`)],
    ['symvers.zst', (home) => packed('zstd', `${home}/symvers`)],
    ['/boot/symvers-RELEASE', () => lay(`boot/symvers-${OTHER}`, symbols())],
    ['/boot/symvers-RELEASE.gz', () => packed('gzip', `boot/symvers-${OTHER}`)],
    ['/boot/symvers-RELEASE.xz', () => packed('xz', `boot/symvers-${OTHER}`)],
    ['/boot/symvers-RELEASE.zst', () => packed('zstd', `boot/symvers-${OTHER}`)],
  ])('is there for a kernel whose symbols are in %s', async (_, write) => {
    await kernel(OTHER);
    await rm(at(HOME, 'symvers.gz'));
    await write(HOME);
    await install(planOf(BUILT));
    await update();
    expect(await target(OTHER)).toBe(TO_BUILT);
  });

  it.each<[string, () => Promise<unknown>]>([
    ['has another CRC of one symbol', () => kernel(OTHER, { _printk: '92997ed9' })],
    [
      'lacks one symbol',
      () => lay(`${HOME}/symvers.gz`, gzipSync(symbols().replace(/.*_printk.*\n/, ''))),
    ],
    ['says nothing of its symbols', () => rm(at(HOME, 'symvers.gz'))],
    ['has a list of symbols that is broken', () => lay(`${HOME}/symvers.gz`, 'broken')],
    ['has modules of the source itself', () => lay(`${HOME}/updates/camera/other.ko`, MODULE)],
    [
      'is not whole',
      () => Promise.all(['order', 'builtin'].map((each) => rm(at(HOME, `modules.${each}`)))),
    ],
  ])('is not there for a kernel that %s, nor stays there', async (_, change) => {
    await kernel(OTHER);
    await install(planOf(BUILT));
    await update();
    expect(await target(OTHER)).toBe(TO_BUILT);
    await change();
    await utimes(at('boot', `initrd-${OTHER}`), 1, 1);
    const { packed: made } = await update();
    expect(await lstat(at(HOME, 'weak-updates')).catch(() => null)).toBeNull();
    expect(made).toEqual((await isWhole()) ? [OTHER] : []);
    expect(await update()).toEqual(NOTHING);
    await rm(at('var/lib/kiln-modules'), { recursive: true });
    await update();
    expect(await target(OTHER)).toBeNull();
  });

  it('goes with its package, and with the kernel', async () => {
    await kernel(OTHER);
    await install(planOf(BUILT));
    await update();
    await remove(planOf(BUILT));
    expect(await update()).toEqual({ indexed: [BUILT, OTHER], packed: [BUILT, OTHER] });
    expect((await readdir(at(HOME))).filter((name) => !/^modules\.|^symvers/.test(name))).toEqual(
      [],
    );
    await expect(found(OTHER)).rejects.toThrow(/not found/);
    await install(planOf(BUILT));
    await update();
    for (const name of ['modules.order', 'modules.builtin', 'symvers.gz']) await rm(at(HOME, name));
    await update();
    expect(await readdir(at('lib/modules'))).toEqual([BUILT]);
  });

  it('is another where its package is built for another kernel, or has other bytes', async () => {
    const [later, latest] = ['6.4.0-150600.23.60-default', '6.4.0-150600.23.70-default'];
    for (const release of [OTHER, later, latest]) await kernel(release);
    await install(planOf(BUILT));
    await update();
    await remove(planOf(BUILT));
    await install(planOf(later));
    await update();
    expect(await Promise.all([BUILT, OTHER, later, latest].map(target))).toEqual([
      ...[1, 2].map(() => `../../../${later}/updates/camera/camera.ko`),
      null,
      `../../../${later}/updates/camera/camera.ko`,
    ]);
    await lay(`lib/modules/${later}/updates/camera/new.ko`, MODULE);
    await mustRun('sh', [
      '-c',
      'cd "$0" && mv new.ko camera.ko',
      at('lib/modules', later, 'updates/camera'),
    ]);
    expect((await update()).packed).toEqual([BUILT, OTHER, later, latest].sort());
  });

  it('leaves links of others where they are', async () => {
    await kernel(OTHER);
    const others: readonly (readonly [string, string])[] = [
      ['weak-updates/kiln/camera.ko', `../../../${BUILT}/updates/kiln/camera.ko`],
      ['weak-updates/gone.ko', `/lib/modules/${BUILT}/updates/gone.ko`],
      [LINK, `/lib/modules/${BUILT}/extra/camera.ko`],
    ];
    for (const [link, to] of others) {
      await mkdir(dirname(at(HOME, link)), { recursive: true });
      await symlink(to, at(HOME, link));
    }
    await install(planOf(BUILT));
    await update();
    await remove(planOf(BUILT));
    await update();
    for (const [link, to] of others) expect(await readlink(at(HOME, link))).toBe(to);
  });

  it('of a source that is called kiln stays away from the links of the program kiln', async () => {
    await kernel(OTHER);
    await install(planOf(BUILT, 'kiln'));
    await update();
    expect(await lstat(at(HOME, 'weak-updates')).catch(() => null)).toBeNull();
  });
});
