import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { aptOptions, type Origin } from './apt.ts';
import { mustRun } from './run.ts';
import { settle } from './settle.ts';
import { WORK } from './places.ts';

/** Debian's packages as files: downloaded with the machine's apt, unpacked, never installed. */

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

/** Debian's kernels, by a name for their series: how a release's ABI is counted, and the suite, where it is not this machine's. */
const SERIES = {
  '5.10': { abi: String.raw`5\.10\.0-(\d+)`, suite: 'bullseye' },
  '6.1': { abi: String.raw`6\.1\.0-(\d+)` },
  '6.12': { abi: String.raw`6\.12\.(\d+)\+deb12` },
  '6.12 of Debian 13': { abi: String.raw`6\.12\.(\d+)\+deb13`, suite: 'trixie' },
} satisfies Record<string, Origin & { readonly abi: string }>;
/** A series of Debian's kernels. */
export type Series = keyof typeof SERIES;

/** Where the packages of a series are. */
export const originOf = (series: Series): Origin => {
  const { abi: _, ...origin } = SERIES[series];
  return origin;
};

/** The kernel releases of a flavour that the archive has headers for, such as `6.1.0-56-amd64`, newest first. */
export const releasesOf = async (
  flavour: string,
  series: Series = '6.1',
): Promise<readonly string[]> => {
  const options = await aptOptions(originOf(series));
  const names = await mustRun('apt-cache', [...options, 'pkgnames', 'linux-headers-']);
  const pattern = new RegExp(`^linux-headers-(${SERIES[series].abi}-${flavour})$`);
  const releases = names.split('\n').flatMap((name) => {
    const match = pattern.exec(name);
    return match?.[1] === undefined ? [] : [{ release: match[1], abi: Number(match[2]) }];
  });
  if (releases.length === 0)
    throw new Error(`apt knows no headers of a kernel ${series}; are Debian 12’s sources set?`);
  return releases.sort((a, b) => b.abi - a.abi).map(({ release }) => release);
};

/** The newest of those releases. */
export const newestRelease = async (flavour = 'amd64', series: Series = '6.1'): Promise<string> =>
  (await releasesOf(flavour, series))[0] ?? '';

/** A package as it is in the archive, downloaded once; the file. */
export const debianPackage = async (name: string, origin: Origin = {}): Promise<string> => {
  const place = join(WORK, 'debian', origin.suite ?? '', 'debs', name);
  if (!(await exists(place))) {
    const arrival = `${place}.${process.pid}`;
    await mkdir(arrival, { recursive: true });
    const options = await aptOptions(origin);
    await mustRun('apt-get', ['download', '-q', ...options, name], { cwd: arrival });
    await settle(arrival, place);
  }
  const [file] = await readdir(place);
  return join(place, file ?? '');
};

/** Unpacks packages into a directory of their own below `.kiln/debian`, once; the directory. */
export const unpackPackages = async (
  label: string,
  packages: readonly string[],
  origin: Origin = {},
): Promise<string> => {
  const place = join(WORK, 'debian', origin.suite ?? '', label);
  if (await exists(place)) return place;
  const arrival = `${place}.${process.pid}`;
  await rm(arrival, { recursive: true, force: true });
  await mkdir(arrival, { recursive: true });
  for (const name of packages)
    await mustRun('dpkg-deb', ['-x', await debianPackage(name, origin), arrival]);
  await settle(arrival, place);
  return place;
};

/** The packages that a kernel's headers are in: those for the release, and what they stand on. */
export const headerPackages = async (
  release: string,
  origin: Origin = {},
): Promise<readonly string[]> => {
  const first = `linux-headers-${release}`;
  const depends = await mustRun('apt-cache', [...(await aptOptions(origin)), 'depends', first]);
  const others = [...depends.matchAll(/Depends: (linux-(?:headers|kbuild)-\S+)/g)];
  return [first, ...others.map((match) => match[1] ?? '')];
};

/** A kernel's headers, as they stand below `/` when installed. */
export const debianHeaders = async (release: string, origin: Origin = {}): Promise<string> =>
  unpackPackages(`headers-${release}`, await headerPackages(release, origin), origin);

/** A `*-dkms` package's source directory. */
export const debianSource = async (name: string, origin: Origin = {}): Promise<string> => {
  const root = await unpackPackages(`source-${name}`, [name], origin);
  const [source] = (await readdir(join(root, 'usr/src'))).sort();
  return join(root, 'usr/src', source ?? '');
};

/** The names of all `*-dkms` packages of Debian's main that hold a module's source. */
export const dkmsPackages = async (): Promise<readonly string[]> => {
  const names = (await mustRun('apt-cache', ['pkgnames'])).split('\n');
  return names.filter((name) => name.endsWith('-dkms') && name !== 'dh-dkms').sort();
};

/** A kernel's image and modules, unsigned, as they stand below `/` when installed. */
export const debianKernel = (release: string): Promise<string> =>
  unpackPackages(`kernel-${release}`, [`linux-image-${release}-unsigned`]);
