import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { aptOptions, sourcesOf } from '../machine/apt.ts';
import { pinToolchain, type KilnService } from '../machine/kiln-service.ts';
import { DKMS_TOOLCHAIN, madeToolchain } from '../machine/places.ts';
import { mustRun } from '../machine/run.ts';

/** Debian's suites whose packages are tried: what they are built with, and their kernels. */
export const SUITES = {
  bookworm: {
    toolchain: DKMS_TOOLCHAIN,
    headers: String.raw`linux-headers-(?<release>6\.1\.0-\d+-(?<flavour>amd64))`,
    series: '6.1',
  },
  trixie: {
    toolchain: madeToolchain('debian-13-gcc-14'),
    headers: String.raw`linux-headers-(?<release>6\.12\.\d+\+deb13-(?<flavour>amd64))`,
    series: '6.12 of Debian 13',
  },
} as const;
export type Suite = keyof typeof SUITES;

const component = 'main contrib non-free non-free-firmware';
/** They bring no module: a helper of packagers, and what dkms's own package is tested with. */
const NO_MODULES = /^dh-dkms$|^dkms-.*test-dkms$/;
/** These take minutes: they come last, so that an interrupted run has most of the table. */
const LONG = /^(nvidia|openafs|zfs|ezurio)/;

/** The names of all packages of a suite that bring a module for dkms. */
export const packagesOf = async (suite: Suite): Promise<readonly string[]> => {
  const options = await aptOptions({ suite, component });
  const names = (await mustRun('apt-cache', [...options, 'pkgnames'])).split('\n');
  const found = names.filter((name) => name.endsWith('-dkms') && !NO_MODULES.test(name)).sort();
  return [...found.filter((name) => !LONG.test(name)), ...found.filter((name) => LONG.test(name))];
};

/** Has a service follow a suite's archive, for its kernels and these packages; what it could not take in. */
export const follow = async (
  kiln: KilnService,
  suite: Suite,
  names: readonly string[],
): Promise<readonly unknown[]> => {
  const { toolchain, headers } = SUITES[suite];
  await pinToolchain(kiln, toolchain);
  const sources = join(kiln.data, `${suite}.sources`);
  await writeFile(sources, await sourcesOf({ suite, component }));
  // A pattern may have 300 characters; a few packages are taken in sooner than all.
  const few = names.map((name) => name.replaceAll('.', String.raw`\.`)).join('|');
  const modules = few.length < 300 ? few : '.*-dkms';
  const what = ['--sources', sources, '--headers', headers, '--modules', modules];
  await kiln.json('archive', 'add', suite, ...what);
  return (await kiln.json<{ problems: unknown[] }>('kernel', 'sync', '--wait')).problems;
};
