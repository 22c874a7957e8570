import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { debianPackage, dkmsPackages, newestRelease, unpackPackages } from '../machine/debian.ts';

/** What is built against what: Debian 12's `*-dkms` packages and zfs-dkms, and the newest kernel of each flavour. */

/** A module source as Debian packages it. */
export interface Subject {
  /** The Debian package. */
  readonly package: string;
  /** The package's file. */
  readonly deb: string;
  /** Its unpacked source directory, `/usr/src/NAME-VERSION` of a host. */
  readonly directory: string;
  readonly name: string;
  readonly version: string;
}

const CONTRIB = ['zfs-dkms'];

export const allPackages = async (): Promise<readonly string[]> => [
  ...(await dkmsPackages()),
  ...CONTRIB,
];

/** Downloads one package and reads what its source is called. */
export const subjectOf = async (name: string): Promise<Subject> => {
  const origin = CONTRIB.includes(name) ? { component: 'contrib' } : {};
  const root = await unpackPackages(`source-${name}`, [name], origin);
  const [folder = ''] = await readdir(join(root, 'usr/src'));
  const conf = await readFile(join(root, 'usr/src', folder, 'dkms.conf'), 'utf8');
  const literal = (variable: string): string | undefined =>
    new RegExp(`^${variable}="?([^"\\n$]+)"?$`, 'm').exec(conf)?.[1];
  const version = literal('PACKAGE_VERSION') ?? '';
  return {
    package: name,
    deb: await debianPackage(name, origin),
    directory: join(root, 'usr/src', folder),
    name: literal('PACKAGE_NAME') ?? '',
    version,
  };
};

/** The kernels of the matrix: 6.1 for servers, clouds and real time, and the 6.12 of backports. */
export const allKernels = async (): Promise<readonly string[]> => [
  await newestRelease('amd64'),
  await newestRelease('cloud-amd64'),
  await newestRelease('rt-amd64'),
  await newestRelease('amd64', '6.12'),
];
