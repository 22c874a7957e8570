import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { mustRun } from './run.ts';
import { WORK } from './places.ts';

/** Debian's packages as files: downloaded with the machine's apt, unpacked, never installed. */

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

/** The newest 6.1 kernel release of a flavour that the archive has headers for, such as `6.1.0-56-amd64`. */
export const newestRelease = async (flavour = 'amd64'): Promise<string> => {
  const names = (await mustRun('apt-cache', ['pkgnames', 'linux-headers-6.1.0-'])).split('\n');
  const pattern = new RegExp(`^linux-headers-(6\\.1\\.0-(\\d+)-${flavour})$`);
  const releases = names.flatMap((name) => {
    const match = pattern.exec(name);
    return match?.[1] === undefined ? [] : [{ release: match[1], abi: Number(match[2]) }];
  });
  const newest = releases.sort((a, b) => b.abi - a.abi)[0];
  if (newest === undefined)
    throw new Error('apt knows no headers of a 6.1 kernel; are Debian 12’s sources set?');
  return newest.release;
};

/** Unpacks packages into a directory of their own below `.kiln/debian`, once; the directory. */
export const unpackPackages = async (
  label: string,
  packages: readonly string[],
): Promise<string> => {
  const place = join(WORK, 'debian', label);
  if (await exists(place)) return place;
  const arrival = `${place}.${process.pid}`;
  await rm(arrival, { recursive: true, force: true });
  await mkdir(join(arrival, 'debs'), { recursive: true });
  await mustRun('apt-get', ['download', '-q', ...packages], { cwd: join(arrival, 'debs') });
  for (const deb of await readdir(join(arrival, 'debs'))) {
    await mustRun('dpkg-deb', ['-x', join(arrival, 'debs', deb), join(arrival, 'root')]);
  }
  await rm(join(arrival, 'debs'), { recursive: true });
  await rename(join(arrival, 'root'), place);
  await rm(arrival, { recursive: true });
  return place;
};

/** A kernel's headers, as they stand below `/` when installed. */
export const debianHeaders = (release: string): Promise<string> => {
  const common = release.replace(/^(\d+\.\d+\.\d+-\d+)-(.+)$/, (_, abi: string, flavour: string) =>
    flavour.startsWith('rt-') ? `${abi}-common-rt` : `${abi}-common`,
  );
  const kbuild = /^\d+\.\d+/.exec(release)?.[0] ?? '';
  return unpackPackages(`headers-${release}`, [
    `linux-headers-${release}`,
    `linux-headers-${common}`,
    `linux-kbuild-${kbuild}`,
  ]);
};

/** A `*-dkms` package's source directory. */
export const debianSource = async (name: string): Promise<string> => {
  const root = await unpackPackages(`source-${name}`, [name]);
  const [source] = (await readdir(join(root, 'usr/src'))).sort();
  return join(root, 'usr/src', source ?? '');
};

/** A kernel's image and modules, unsigned, as they stand below `/` when installed. */
export const debianKernel = (release: string): Promise<string> =>
  unpackPackages(`kernel-${release}`, [`linux-image-${release}-unsigned`]);
