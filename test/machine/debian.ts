import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno } from '../../services/core/errors.ts';
import { mustRun } from './run.ts';
import { WORK } from './places.ts';

/** Debian's packages as files: downloaded with the machine's apt, unpacked, never installed. */

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

/** Gives what was made its place, unless somebody else was first with the same: tests run side by side. */
export const settle = async (arrival: string, place: string): Promise<void> => {
  try {
    await rename(arrival, place);
  } catch (error) {
    if (!hasErrno(error, 'ENOTEMPTY') && !hasErrno(error, 'EEXIST')) throw error;
    await rm(arrival, { recursive: true, force: true });
  }
};

/** Kernels of Debian 12: the release's own, and the newer one from its backports. */
const SERIES = {
  '6.1': { prefix: 'linux-headers-6.1.0-', pattern: String.raw`6\.1\.0-(\d+)` },
  '6.12': { prefix: 'linux-headers-6.12.', pattern: String.raw`6\.12\.(\d+)\+deb12` },
} as const;

/** The kernel releases of a flavour that the archive has headers for, such as `6.1.0-56-amd64`, newest first. */
export const releasesOf = async (
  flavour: string,
  series: keyof typeof SERIES = '6.1',
): Promise<readonly string[]> => {
  const { prefix, pattern: abis } = SERIES[series];
  const names = (await mustRun('apt-cache', ['pkgnames', prefix])).split('\n');
  const pattern = new RegExp(`^linux-headers-(${abis}-${flavour})$`);
  const releases = names.flatMap((name) => {
    const match = pattern.exec(name);
    return match?.[1] === undefined ? [] : [{ release: match[1], abi: Number(match[2]) }];
  });
  if (releases.length === 0)
    throw new Error(`apt knows no headers of a ${series} kernel; are Debian 12’s sources set?`);
  return releases.sort((a, b) => b.abi - a.abi).map(({ release }) => release);
};

export const newestRelease = async (
  flavour = 'amd64',
  series: keyof typeof SERIES = '6.1',
): Promise<string> => (await releasesOf(flavour, series))[0] ?? '';

/** The stanzas of this machine's apt that name Debian 12's archive. */
export const debianSources = async (): Promise<readonly string[]> => {
  const folder = '/etc/apt/sources.list.d';
  const texts = await Promise.all(
    (await readdir(folder))
      .filter((name) => name.endsWith('.sources'))
      .map((name) => readFile(join(folder, name), 'utf8')),
  );
  const stanzas = texts
    .flatMap((text) => text.split(/\n\s*\n/))
    .filter((stanza) => /^Suites:.*bookworm/m.test(stanza));
  if (stanzas.length === 0)
    throw new Error(`no bookworm in ${folder}; Debian 12’s sources must be set`);
  return stanzas;
};

/** Debian's other components, which this machine's apt is not set to, through an apt of our own with the same archive. */
const aptFor = async (component: string): Promise<readonly string[]> => {
  const place = join(WORK, 'debian', `apt-${component}`);
  const options = [
    `Dir::Etc::sourcelist=${place}/list.sources`,
    'Dir::Etc::sourceparts=-',
    `Dir::State::lists=${place}/lists`,
    `Dir::Cache=${place}/cache`,
  ].flatMap((option) => ['-o', option]);
  if (await exists(join(place, 'lists/lock'))) return options;
  await mkdir(join(place, 'lists/partial'), { recursive: true });
  await mkdir(join(place, 'cache/archives/partial'), { recursive: true });
  const stanzas = await debianSources();
  await writeFile(
    join(place, 'list.sources'),
    stanzas
      .map((stanza) => stanza.replace(/^Components:.*$/m, `Components: ${component}`))
      .join('\n\n'),
  );
  await mustRun('apt-get', ['update', '-q', ...options]);
  return options;
};

/** A package as it is in the archive, downloaded once; the file. */
export const debianPackage = async (name: string, component = 'main'): Promise<string> => {
  const place = join(WORK, 'debian/debs', name);
  if (!(await exists(place))) {
    const arrival = `${place}.${process.pid}`;
    await mkdir(arrival, { recursive: true });
    const options = component === 'main' ? [] : await aptFor(component);
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
  component?: string,
): Promise<string> => {
  const place = join(WORK, 'debian', label);
  if (await exists(place)) return place;
  const arrival = `${place}.${process.pid}`;
  await rm(arrival, { recursive: true, force: true });
  await mkdir(arrival, { recursive: true });
  for (const name of packages)
    await mustRun('dpkg-deb', ['-x', await debianPackage(name, component), arrival]);
  await settle(arrival, place);
  return place;
};

/** The packages that a kernel's headers are in: those for the release, and what they stand on. */
export const headerPackages = async (release: string): Promise<readonly string[]> => {
  const first = `linux-headers-${release}`;
  const depends = await mustRun('apt-cache', ['depends', first]);
  const others = [...depends.matchAll(/Depends: (linux-(?:headers|kbuild)-\S+)/g)];
  return [first, ...others.map((match) => match[1] ?? '')];
};

/** A kernel's headers, as they stand below `/` when installed. */
export const debianHeaders = async (release: string): Promise<string> =>
  unpackPackages(`headers-${release}`, await headerPackages(release));

/** A `*-dkms` package's source directory. */
export const debianSource = async (name: string, component?: string): Promise<string> => {
  const root = await unpackPackages(`source-${name}`, [name], component);
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
