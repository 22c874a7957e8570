import { lstat, mkdir, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { freshDirectory } from './make-source.ts';
import { BUILT, ownKernel } from './own-kernel.ts';
import { mustRun } from './run.ts';

/** A host on which a distribution has installed the headers of one kernel, in its own way. */
export interface LaidHeaders {
  readonly root: string;
  readonly release: string;
  /** The build tree, from `/`. */
  readonly home: string;
  /** What its packages install, each a list of directories from `/`; the first holds the build tree. */
  readonly packages: readonly (readonly string[])[];
  readonly kind: 'deb' | 'rpm';
}

type Lay = (headers: string, debian: string) => Promise<LaidHeaders>;

/** Debian's headers as one tree at a place below a fresh root, under another release. */
const treeAt = async (
  headers: string,
  debian: string,
  release: string,
  home: string,
): Promise<string> => {
  const own = await ownKernel(headers, debian, release);
  const root = await freshDirectory('laid');
  await mkdir(join(root, dirname(home)), { recursive: true });
  await rename(own.tree, join(root, home));
  return root;
};

/** Moves what building a kernel makes out of its source, as `make O=DIR` would have it from the beginning. */
const moveBuilt = async (source: string, build: string): Promise<void> => {
  for (const path of BUILT) {
    await mkdir(dirname(join(build, path)), { recursive: true });
    await rename(join(source, path), join(build, path));
  }
};

/** Links everything of a tree into another that has some of it (Ubuntu's `debian/scripts/link-headers`). */
const linkAll = async (from: string, into: string): Promise<void> => {
  for (const name of await readdir(from)) {
    const [there, here] = [join(from, name), join(into, name)];
    const found = await lstat(here).catch(() => null);
    if (found === null) await symlink(relative(into, there), here);
    else if (found.isDirectory()) await linkAll(there, here);
  }
};

const linkBuild = async (root: string, release: string, target: string): Promise<void> => {
  const modules = join(root, 'lib/modules', release);
  await mkdir(modules, { recursive: true });
  await symlink(target, join(modules, 'build'));
};

/** Ubuntu's, of a kernel whose common half is called as its source package is: HWE and cloud kernels. */
const ubuntu: Lay = async (headers, debian) => {
  const release = '6.8.0-40-generic';
  const common = 'usr/src/linux-hwe-6.8-headers-6.8.0-40';
  const home = `usr/src/linux-headers-${release}`;
  const root = await treeAt(headers, debian, release, common);
  await moveBuilt(join(root, common), join(root, home));
  await linkAll(join(root, common), join(root, home));
  // Only who writes drivers in Rust has this package.
  await symlink(`../linux-lib-rust-${release}/rust`, join(root, home, 'rust'));
  await linkBuild(root, release, `/${home}`);
  return { root, release, home: `/${home}`, packages: [[home], [common]], kind: 'deb' };
};

/** openSUSE's: source and build tree apart, as `make O=DIR` leaves them, with a hand-over that is relative; and another flavour. */
const suse: Lay = async (headers, debian) => {
  const version = '6.4.0-150600.23.42';
  const release = `${version}-default`;
  const source = `usr/src/linux-${version}`;
  const built = `usr/src/linux-${version}-obj/x86_64`;
  const home = `${built}/default`;
  const root = await treeAt(headers, debian, release, source);
  await moveBuilt(join(root, source), join(root, home));
  await writeFile(
    join(root, home, 'Makefile'),
    `export KBUILD_OUTPUT = /${home}\ninclude ../../../linux-${version}/Makefile\n`,
  );
  await symlink(`linux-${version}`, join(root, 'usr/src/linux'));
  const azure = join(root, built, 'azure');
  await mkdir(join(azure, 'include/generated'), { recursive: true });
  await writeFile(
    join(azure, 'include/generated/utsrelease.h'),
    `#define UTS_RELEASE "${version}-azure"\n`,
  );
  await writeFile(join(azure, '.config'), 'CONFIG_X86_64=y\n');
  await linkBuild(root, release, `/${home}`);
  await symlink(`/${source}`, join(root, 'lib/modules', release, 'source'));
  return { root, release, home: `/${home}`, packages: [[home], [source]], kind: 'rpm' };
};

/** Arch's: one tree where the modules are, and `/lib` a link. */
const arch: Lay = async (headers, debian) => {
  const release = '6.10.1-arch1-1';
  const home = `usr/lib/modules/${release}/build`;
  const root = await treeAt(headers, debian, release, home);
  await symlink('usr/lib', join(root, 'lib'));
  await mkdir(join(root, 'usr/src'));
  await symlink(`../lib/modules/${release}/build`, join(root, 'usr/src/linux'));
  return { root, release, home: `/${home}`, packages: [[home, 'usr/src']], kind: 'rpm' };
};

/** The layouts by their distribution. */
export const LAYOUTS: Readonly<Record<string, Lay>> = {
  'Ubuntu’s HWE kernels': ubuntu,
  openSUSE: suse,
  Arch: arch,
};

/** What a package is called, and which others it needs, by its distribution's grammar. */
export interface PackageWords {
  readonly name: string;
  readonly version?: string;
  /** Of an RPM. */
  readonly release?: string;
  readonly arch?: 'noarch' | 'x86_64';
  readonly depends?: string;
}

/** What one package of a distribution installs, packed in its way; the package. */
export const packLaid = async (
  { root, release, kind }: LaidHeaders,
  directories: readonly string[],
  words: PackageWords = { name: (directories[0] ?? '').replaceAll(/[^a-z0-9]+/g, '-') },
): Promise<string> => {
  const top = await freshDirectory('package');
  const files = join(top, 'files');
  for (const directory of directories) {
    await mkdir(dirname(join(files, directory)), { recursive: true });
    await mustRun('cp', ['-a', join(root, directory), join(files, directory)]);
  }
  const { name, version = '1', depends = '' } = words;
  if (kind === 'deb') {
    await mkdir(join(files, 'DEBIAN'), { recursive: true });
    await writeFile(
      join(files, 'DEBIAN/control'),
      `Package: ${name}\nVersion: ${version}\nArchitecture: amd64\nMaintainer: x <x@example.org>\n${depends === '' ? '' : `Depends: ${depends}\n`}Description: headers of ${release}\n`,
    );
    await mustRun('dpkg-deb', [
      '--build',
      '-Zzstd',
      '--root-owner-group',
      files,
      `${top}/${name}.deb`,
    ]);
    await rm(files, { recursive: true });
    return `${top}/${name}.deb`;
  }
  const spec = join(top, 'headers.spec');
  await writeFile(
    spec,
    `Name: ${name}
Version: ${version}
Release: ${words.release ?? '1'}
Summary: headers
License: GPL
${words.arch === 'noarch' ? 'BuildArch: noarch\n' : ''}${depends === '' ? '' : `Requires: ${depends}\n`}%global debug_package %{nil}
%global __os_install_post %{nil}
%global _build_id_links none
%global _binaries_in_noarch_packages_terminate_build 0
AutoReqProv: no
%description
.
%install
mkdir -p %{buildroot}
cp -a ${files}/. %{buildroot}/
%files
/usr
`,
  );
  const defined = [`_topdir ${top}/rpm`, '_binary_payload w3.zstdio'];
  const options = defined.flatMap((definition) => ['--define', definition]);
  await mustRun('rpmbuild', ['-bb', '--quiet', ...options, spec]);
  await rm(files, { recursive: true });
  return (await mustRun('find', [`${top}/rpm`, '-name', '*.rpm'])).trim();
};
