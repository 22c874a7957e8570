import { lstat, mkdir, rm, symlink, utimes } from 'node:fs/promises';
import { dirname } from 'node:path';
import { gzipSync } from 'node:zlib';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { flavourOf } from '../../services/core/module/weak-updates.ts';
import { LINK as LINK_SCRIPT } from '../../services/core/packages/link-script.ts';
import { mustRun } from '../machine/run.ts';
import {
  freshRoot,
  BUILT,
  OTHER,
  moduleFor,
  MODULE,
  at,
  lay,
  kernel,
  symbols,
  exportWith,
  planOf,
  install,
  remove,
  runUpdate,
  update,
  LINK,
  target,
  TO_BUILT,
  HOME,
  NOTHING,
  packed,
  isWhole,
  found,
} from './linked-root.ts';

/** Which kernels `kiln-modules-common` links modules that track the kABI on. */

beforeEach(freshRoot);

describe('a module that tracks the kABI', () => {
  it.each<[string, () => Promise<unknown>]>([
    ['has another CRC of one symbol', () => kernel(OTHER, { _printk: '92997ed9' })],
    [
      'lacks one symbol',
      () => lay(`${HOME}/symvers.gz`, gzipSync(symbols().replace(/.*_printk.*\n/, ''))),
    ],
    ['says nothing of its symbols', () => rm(at(HOME, 'symvers.gz'))],
    [
      'wants another vermagic',
      () => lay(`${HOME}/kernel/own.ko`, moduleFor(OTHER, 'own', 'SMP mod_unload modversions')),
    ],
    ['has no modules of its own', () => rm(at(HOME, 'kernel/own.ko'))],
    [
      'exports a symbol in a namespace that the module does not import',
      () => exportWith('EXPORT_SYMBOL\tSECRET'),
    ],
    ['has modules of the source itself', () => lay(`${HOME}/updates/camera/other.ko`, MODULE)],
    [
      'is not whole',
      () =>
        Promise.all(
          ['order', 'builtin', 'builtin.modinfo'].map((each) => rm(at(HOME, `modules.${each}`))),
        ),
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

  it.each([
    ['of a namespace that it imports', 'EXPORT_SYMBOL\tDMA_BUF', {}],
    ['to the GPL, which it is under', 'EXPORT_SYMBOL_GPL\t', {}],
    ['to all, where it is not under the GPL', 'EXPORT_SYMBOL\t', { isGpl: false }],
  ])('is there where a symbol is exported %s', async (_, terms, needs) => {
    await kernel(OTHER);
    await exportWith(terms);
    await install(planOf(BUILT, 'camera', needs));
    await update();
    expect(await target(OTHER)).toBe(TO_BUILT);
  });

  it('is not there where a symbol is for the GPL alone, which it is not under', async () => {
    await kernel(OTHER);
    await exportWith('EXPORT_SYMBOL_GPL\t');
    await install(planOf(BUILT, 'camera', { isGpl: false }));
    await update();
    expect(await target(OTHER)).toBeNull();
  });

  it('is not there for a kernel of another flavour, though all else agrees', async () => {
    const others = ['6.4.0-150600.23.42-azure', '5.14.0-427.el9.x86_64', '6.4.0'];
    for (const release of others) await kernel(release);
    await install(planOf(BUILT));
    await update();
    expect(await Promise.all(others.map(target))).toEqual([null, null, null]);
  });

  it.each([
    ['is broken', () => lay(`${HOME}/symvers.gz`, 'broken')],
    [
      'nothing here unpacks',
      async () => {
        await rm(at(HOME, 'symvers.gz'));
        await packed('xz', `${HOME}/symvers`);
        await lay('bin/xz', '#!/bin/sh\nexit 127\n', 0o755);
      },
    ],
  ])('stays as it is where the list of symbols %s, and that is said', async (_, change) => {
    await kernel(OTHER);
    await install(planOf(BUILT));
    await update();
    await change();
    const { status, stderr } = await runUpdate();
    expect([status, stderr]).toEqual([
      1,
      expect.stringContaining(`the symbols of kernel ${OTHER} cannot be read`),
    ]);
    expect(await target(OTHER)).toBe(TO_BUILT);
  });

  it('is preferred to the kernel’s own of that name, as on the kernel it was built for', async () => {
    await kernel(OTHER);
    for (const release of [BUILT, OTHER])
      await lay(`lib/modules/${release}/kernel/camera.ko`, moduleFor(release, 'camera'));
    await install(planOf(BUILT));
    await update();
    expect(await found(BUILT)).toBe(at('lib/modules', BUILT, 'updates/camera/camera.ko'));
    expect(await found(OTHER)).toBe(at('lib/modules', OTHER, LINK));
  });

  it('takes links of SUSE’s weak-modules2 with it, which nothing else would remove', async () => {
    await kernel(OTHER);
    await install(planOf(BUILT));
    await update();
    const theirs = at(HOME, 'weak-updates/updates/camera/camera.ko');
    await mkdir(dirname(theirs), { recursive: true });
    await symlink(at('lib/modules', BUILT, 'updates/camera/camera.ko'), theirs);
    await update();
    expect((await lstat(theirs)).isSymbolicLink()).toBe(true);
    await remove(planOf(BUILT));
    await update();
    expect(await lstat(at(HOME, 'weak-updates')).catch(() => null)).toBeNull();
  });
});

describe('a kernel’s flavour', () => {
  it('is to the script what it is to the program kiln', async () => {
    const releases = [
      BUILT,
      '6.4.0-150600.10.5-rt_debug',
      '6.1.0-56-cloud-amd64',
      '6.12.117+deb13-amd64',
      '5.14.0-427.13.1.el9_4.x86_64',
      '5.14.0-427.13.1.el9_4.x86_64+rt',
      '6.11.4-301.fc41.x86_64',
      '6.8.0-40-generic',
      '6.12-rc3-custom',
      '6.12.0-rc3',
      '6.6.3',
      '4.19.90-2112.8.0.0131.oe1.aarch64',
    ];
    const of = /^flavour\(\) .*?^}$/ms.exec(LINK_SCRIPT)?.[0] ?? '';
    const out = await mustRun('sh', [
      '-c',
      `${of}\nfor each in "$@"; do flavour "$each"; done`,
      'sh',
      ...releases,
    ]);
    expect(out.split('\n').slice(0, -1)).toEqual(releases.map(flavourOf));
  });
});
