import { createHash } from 'node:crypto';
import { copyFile, mkdir, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { freshDirectory } from './make-source.ts';
import { mustRun } from './run.ts';
import { signFile, signPackages, type SigningKey } from './signing-keys.ts';

/** What signs a repository; `null`: nobody. */
export interface Signers {
  readonly packages: SigningKey | null;
  readonly metadata: SigningKey | null;
}

/** An RPM that holds one file, of a kernel's headers by its name alone. */
export interface SmallPackage {
  readonly name?: string;
  readonly epoch?: number;
  readonly version?: string;
  readonly release?: string;
  readonly requires?: string;
}

/** Makes a small RPM; its file. */
export const smallPackage = async ({
  name = 'kernel-devel',
  epoch = 0,
  version = '5.14.0',
  release = '1.el9',
  requires = '',
}: SmallPackage = {}): Promise<string> => {
  const top = await freshDirectory('small-rpm');
  const spec = join(top, 'small.spec');
  await writeFile(
    spec,
    `Name: ${name}
Epoch: ${epoch}
Version: ${version}
Release: ${release}
Summary: headers
License: GPL
${requires === '' ? '' : `Requires: ${requires}\n`}AutoReqProv: no
%description
.
%install
mkdir -p %{buildroot}/usr/src/kernels
echo ${version}-${release} > %{buildroot}/usr/src/kernels/version
%files
/usr/src/kernels
`,
  );
  await mustRun('rpmbuild', ['-bb', '--quiet', '--define', `_topdir ${top}`, spec]);
  return (await mustRun('find', [top, '-name', '*.rpm'])).trim();
};

/** Makes a repository with createrepo_c, of copies of packages; its directory. `options` are createrepo_c's. */
export const rpmRepository = async (
  packages: readonly string[],
  signers: Signers,
  ...options: readonly string[]
): Promise<string> => {
  const top = await freshDirectory('rpm-repository');
  const place = join(top, 'Packages/k');
  await mkdir(place, { recursive: true });
  const copies = packages.map((file) => join(place, basename(file)));
  for (const [index, file] of packages.entries()) await copyFile(file, copies[index] ?? '');
  if (signers.packages !== null) await signPackages(signers.packages, copies);
  await publish(top, signers, ...options);
  return top;
};

/** Makes the metadata of a repository's packages, anew where it has some. */
export const publish = async (
  top: string,
  signers: Pick<Signers, 'metadata'>,
  ...options: readonly string[]
): Promise<void> => {
  await rm(join(top, 'repodata'), { recursive: true, force: true });
  await mustRun('createrepo_c', ['--quiet', '--no-database', ...options, top]);
  if (signers.metadata !== null) await signFile(signers.metadata, join(top, 'repodata/repomd.xml'));
};

/** Changes a repository's `repomd.xml`, as who has the mirror can; a signature beside it stays as it was. */
export const changeIndex = async (top: string, change: (xml: string) => string): Promise<void> => {
  const file = join(top, 'repodata/repomd.xml');
  const xml = await readFile(file, 'utf8');
  const changed = change(xml);
  if (changed === xml) throw new Error('nothing was changed in repomd.xml');
  await writeFile(file, changed);
};

/** Changes a repository's list of packages, and what repomd.xml says about it. `pack` is how it is compressed. */
export const changeList = async (
  top: string,
  change: (xml: string) => string,
  pack: (xml: string) => Buffer | Promise<Buffer> = (xml) => gzipSync(xml),
): Promise<void> => {
  const folder = join(top, 'repodata');
  const list = (await readdir(folder)).find((name) => name.endsWith('-primary.xml.gz')) ?? '';
  const old = await readFile(join(folder, list));
  const open = change(gunzipSync(old).toString('utf8'));
  const bytes = await pack(open);
  await writeFile(join(folder, list), bytes);
  const sha256 = (of: Buffer): string => createHash('sha256').update(of).digest('hex');
  await changeIndex(top, (xml) =>
    xml
      .replace(`>${sha256(old)}<`, `>${sha256(bytes)}<`)
      .replace(`<size>${old.length}<`, `<size>${bytes.length}<`)
      .replace(/(type="primary"[^]*?<open-size>)\d+/, `$1${Buffer.byteLength(open)}`),
  );
};

/** Makes a repository's metadata as old as `time` (seconds since 1970), by its own words. */
export const setTime = async (top: string, time: number): Promise<void> => {
  for (const name of await readdir(join(top, 'repodata')))
    await utimes(join(top, 'repodata', name), time, time);
  await changeIndex(top, (xml) => xml.replaceAll(/<(timestamp|revision)>\d+/g, `<$1>${time}`));
};

/** The `.repo` file for a repository; its path. */
export const repoFile = async (
  base: string,
  { armored }: Pick<SigningKey, 'armored'>,
  settings = '',
): Promise<string> => {
  const file = join(await freshDirectory('repo'), 'archive.repo');
  await writeFile(
    file,
    `[archive]\nname=Archive\nbaseurl=${base}\nenabled=1\ngpgcheck=1\ngpgkey=file://${armored}\n${settings}\n`,
  );
  return file;
};
