import { lstat, mkdir, readFile, readlink, rm, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import { UPDATE_SCRIPT } from '../../services/core/packages/common-package.ts';
import type { Kabi } from '../../services/core/packages/kabi.ts';
import { planPackage } from '../../services/core/packages/plan-package.ts';
import type { PackagePlan } from '../../services/core/packages/plan.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { mustRun, run, type Ran } from '../machine/run.ts';
import { moduleBytes } from '../unit/samples.ts';

/** A root with kernels and the scripts of `kiln-modules-common`, which are the real ones, but for their places. */

/** The kernel that modules are built for, and another of its flavour. */
export const BUILT = '6.4.0-150600.23.25-default';
export const OTHER = '6.4.0-150600.23.42-default';
const NEEDED = { module_layout: '0000aabb', _printk: '92997ed8', Odd: '00000001' };
const VERMAGIC = 'SMP preempt mod_unload modversions';
/** A module for a kernel, as modinfo and depmod read it. */
export const moduleFor = (release: string, name: string, vermagic = VERMAGIC): Buffer =>
  moduleBytes([`name=${name}`, `vermagic=${release} ${vermagic} `, 'license=GPL']);
/** The module of all packages. */
export const MODULE = moduleFor(BUILT, 'camera');

/** Where the root is. */
export let root: string;

/** A path in the root. */
export const at = (...path: readonly string[]): string => join(root, ...path);
/** Writes a file there, with the directories that it needs. */
export const lay = async (path: string, bytes: string | Buffer, mode = 0o644): Promise<void> => {
  await mkdir(dirname(at(path)), { recursive: true });
  await writeFile(at(path), bytes, { mode });
};
/** A kernel that is whole and exports what is needed, with these symbols otherwise. */
export const kernel = async (release: string, other: Readonly<Record<string, string>> = {}) => {
  await lay(`lib/modules/${release}/kernel/own.ko`, moduleFor(release, 'own'));
  await lay(`lib/modules/${release}/modules.order`, '');
  await lay(`lib/modules/${release}/modules.builtin`, '');
  await lay(`lib/modules/${release}/modules.builtin.modinfo`, '');
  await lay(`lib/modules/${release}/symvers.gz`, gzipSync(symbols(other)));
  await lay(`boot/initrd-${release}`, '');
  await utimes(at('boot', `initrd-${release}`), 1, 1);
};
/** The list of what a kernel exports. */
export const symbols = (other: Readonly<Record<string, string>> = {}): string =>
  Object.entries({ before: '12345678', ...NEEDED, ...other })
    .map(([symbol, crc]) => `0x${crc}\t${symbol}\tvmlinux\tEXPORT_SYMBOL\t\n`)
    .join('');

/** Gives one symbol that is needed these terms: what is behind its module. */
export const exportWith = (terms: string): Promise<void> =>
  lay(
    `${HOME}/symvers.gz`,
    gzipSync(symbols().replace(/^(.*_printk\tvmlinux\t).*$/m, `$1${terms}`)),
  );
/** A package of a source's module that was built for a kernel, and what it needs of one. */
export const planOf = (
  release: string,
  source = 'camera',
  needs: Partial<Kabi> = {},
): PackagePlan =>
  planPackage('kmp', {
    kind: 'modules',
    build: '0123456789abcdef01234567',
    source: { name: source, version: '1.0' },
    kernel: { release, arch: 'x86_64', version: null },
    modules: [{ name: 'camera', signed: digestOf(MODULE), size: 1, license: 'GPL' }],
    kabi: {
      symbols: Object.entries(NEEDED),
      vermagic: VERMAGIC,
      isGpl: true,
      namespaces: ['DMA_BUF', 'CRYPTO_INTERNAL'],
      ...needs,
    },
    files: [],
    needs: [],
    attestation: { digest: digestOf('attestation'), size: 11 },
    revision: 1,
  });
/** Lays a package's files, and takes them away, as a package manager does. */
export const install = async ({ files }: PackagePlan): Promise<void> => {
  for (const { place, content } of files)
    await lay(place, 'text' in content ? content.text : MODULE);
};
export const remove = async ({ files }: PackagePlan): Promise<void> => {
  for (const { place } of files) {
    await rm(at(place));
    await mustRun('rmdir', ['-p', '--ignore-fail-on-non-empty', at(dirname(place))]);
  }
};

const PLACES =
  /(?<![\w.}])\/(?=(lib\/modules|boot|var\/lib\/kiln-modules|usr\/lib\/kiln-modules)\b)/g;
/** Runs the script. */
export const runUpdate = (): Promise<Ran> =>
  run(at(UPDATE_SCRIPT), [], {
    env: { PATH: `${at('bin')}:/usr/sbin:/usr/bin:/sbin:/bin`, LC_ALL: 'C' },
  });
/** Runs the script as rpm and dpkg do, at the end of a run; the kernels whose index and initramfs it made. */
export const update = async (): Promise<{
  indexed: readonly string[];
  packed: readonly string[];
}> => {
  const [depmod, dracut] = [at('depmod.log'), at('dracut.log')];
  await Promise.all([depmod, dracut].map((log) => writeFile(log, '')));
  const ran = await runUpdate();
  expect([ran.status, ran.stderr]).toEqual([0, '']);
  const linesOf = async (log: string): Promise<readonly string[]> =>
    (await readFile(log, 'utf8')).split('\n').filter(Boolean).sort();
  return { indexed: await linesOf(depmod), packed: await linesOf(dracut) };
};
/** Where a link is, below the modules of a kernel. */
export const LINK = 'weak-updates/camera/camera.ko';
/** Where that leads, by the kernel; `null` where there is none. */
export const target = (release: string): Promise<string | null> =>
  readlink(at('lib/modules', release, LINK)).catch(() => null);
/** Where links to the module lead, the modules of the other kernel, and what a run says that changed nothing. */
export const TO_BUILT = `../../../${BUILT}/updates/camera/camera.ko`;
export const HOME = `lib/modules/${OTHER}`;
export const NOTHING = { indexed: [], packed: [] };
/** Symbols as a kernel's package brings them. */
export const packed = async (program: string, path: string): Promise<void> => {
  await lay(path, symbols());
  await mustRun(program, ['-q', ...(program === 'zstd' ? ['--rm'] : []), at(path)]);
};
/** Whether the other kernel is there with its own files. */
export const isWhole = (): Promise<boolean> =>
  lstat(at(HOME, 'modules.order')).then(
    () => true,
    () => false,
  );
/** Where modprobe finds the module on a kernel. */
export const found = (release: string): Promise<string> =>
  mustRun('modinfo', ['-b', root, '-k', release, '-F', 'filename', 'camera']).then((out) =>
    out.trim(),
  );

/** Begins with a new root that has the kernel `BUILT`. */
export const freshRoot = async (): Promise<void> => {
  root = await freshDirectory('link-modules');
  for (const { place, content } of planPackage('rpm', { kind: 'common' }).files)
    await lay(place, 'text' in content ? content.text.replace(PLACES, `${root}/`) : '', 0o755);
  const program = (name: string, script: string): Promise<void> =>
    lay(`bin/${name}`, `#!/bin/sh\n${script}\n`, 0o755);
  await program(
    'depmod',
    `echo "$1" >>${at('depmod.log')}; exec /sbin/depmod -b ${root} -C ${at('usr/lib/depmod.d')} "$1"`,
  );
  // As Enterprise Linux has it.
  await lay('usr/lib/depmod.d/dist.conf', 'search updates extra built-in weak-updates\n');
  await program('dracut', `echo "$3" >>${at('dracut.log')}; touch "$2"`);
  await kernel(BUILT);
};
