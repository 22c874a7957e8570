import { lstat, mkdir, readdir, readlink, rm, symlink, utimes } from 'node:fs/promises';
import { dirname } from 'node:path';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { mustRun } from '../machine/run.ts';
import {
  freshRoot,
  BUILT,
  OTHER,
  MODULE,
  at,
  lay,
  kernel,
  symbols,
  planOf,
  install,
  remove,
  update,
  LINK,
  target,
  TO_BUILT,
  HOME,
  NOTHING,
  packed,
  found,
} from './linked-root.ts';

/** What `kiln-modules-common` does of modules that track the kABI. */

beforeEach(freshRoot);

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

  it('goes with its package, and with the kernel', async () => {
    await kernel(OTHER);
    await install(planOf(BUILT));
    await update();
    await remove(planOf(BUILT));
    expect(await update()).toEqual({ indexed: [BUILT, OTHER], packed: [BUILT, OTHER] });
    expect(
      (await readdir(at(HOME))).filter((name) => !/^modules\.|^symvers|^kernel$/.test(name)),
    ).toEqual([]);
    await expect(found(OTHER)).rejects.toThrow(/not found/);
    await install(planOf(BUILT));
    await update();
    for (const name of ['order', 'builtin', 'builtin.modinfo'])
      await rm(at(HOME, `modules.${name}`));
    await rm(at(HOME, 'symvers.gz'));
    await rm(at(HOME, 'kernel'), { recursive: true });
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
