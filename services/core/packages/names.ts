import type { Arch } from '../arch.ts';
import { compareRpmVersions, type RpmVersion } from '../kernel/rpm-version.ts';
import { compareVersions } from '../source/source-version.ts';
import type { RepositoryFormat } from './plan.ts';
import type { PackageSubject } from './subject.ts';

/** What packages of modules are called, and how they are counted (sources: deb-control(5), deb-version(7), rpm-version(7)). */

/** A source's version as packages have it: what is compared first, and what after that. */
export interface PackageVersion {
  readonly upstream: string;
  readonly revision: string;
}

const DEB_ARCHES: Readonly<Record<Arch, string>> = {
  x86_64: 'amd64',
  i686: 'i386',
  aarch64: 'arm64',
  armv7l: 'armhf',
  ppc64le: 'ppc64el',
  s390x: 's390x',
  riscv64: 'riscv64',
};

/** An architecture's name in Debian. */
export const debArch = (arch: Arch): string => DEB_ARCHES[arch];

/** A name as packages can have it: of lower-case letters, digits, `+`, `-` and `.`. */
export const packageWord = (name: string): string =>
  name.toLowerCase().replaceAll(/[^a-z0-9+.-]/g, '-');

/** A kernel's release in the name of an RPM package, which has no `~`. */
export const kernelWord = (release: string): string => release.replaceAll(/[^A-Za-z0-9+._-]/g, '-');

/** The Debian package of a source's modules for one kernel. */
export const modulesPackage = (source: string, release: string): string =>
  `${packageWord(source)}-modules-${packageWord(release)}`;

/** The Debian package of the settings that a source brings. */
export const settingsPackage = (source: string): string =>
  `${packageWord(source)}-modules-settings`;

/** The packages of a Debian or Ubuntu kernel itself: Debian's own, with and without its signature for Secure Boot, or `make bindeb-pkg`’s. */
export const kernelPackages = (release: string): readonly string[] => [
  `linux-image-${packageWord(release)}`,
  `linux-image-${packageWord(release)}-unsigned`,
  `linux-image-unsigned-${packageWord(release)}`,
];

/** A Debian package's name. */
export const debName = (subject: PackageSubject): string => {
  switch (subject.kind) {
    case 'modules':
      return modulesPackage(subject.source.name, subject.kernel.release);
    case 'settings':
      return settingsPackage(subject.source.name);
    case 'flavour':
      return `${packageWord(subject.source.name)}-modules-${packageWord(subject.flavour ?? 'newest')}`;
    case 'common':
      return 'kiln-modules-common';
  }
};

/**
 * A source's version divided as Debian's packages are: what follows the last hyphen is the packaging's own. Characters that no package
 * has become `.`; a version that does not begin with a digit, such as a commit's, begins with `0.`.
 */
export const dividedVersion = (version: string): PackageVersion => {
  const dash = version.lastIndexOf('-');
  const [upstream, revision] =
    dash < 1 ? [version, '0'] : [version.slice(0, dash), version.slice(dash + 1)];
  const plain = upstream.replaceAll(/[^A-Za-z0-9.+~]/g, '.');
  return {
    upstream: /^[0-9]/.test(plain) ? plain : `0.${plain}`,
    revision: revision.replaceAll(/[^A-Za-z0-9.+~]/g, '.') || '0',
  };
};

/**
 * A Debian package's version: the source's, then the kernel package's, then the count of packages that differ in their bytes alone. So a
 * newer source counts first, and a newer kernel package of the same release after that.
 */
export const debVersion = (subject: PackageSubject): string => {
  if (subject.kind === 'common') return COMMON_VERSION;
  const { upstream, revision } = dividedVersion(subject.source.version);
  const kernel =
    subject.kind === 'settings' || subject.kernel.version === null
      ? ''
      : `+${subject.kernel.version.replaceAll(/[^A-Za-z0-9.+~]/g, '.')}`;
  return `${upstream}-${revision}${kernel}+${subject.revision}`;
};

/** The version of what all packages of modules need; raised whenever its bytes change. */
export const COMMON_VERSION = '3';

/** A kernel's flavour, by its release: `amd64` of `6.1.0-57-amd64`, `generic` of `6.8.0-40-generic`; `null` where it has none. */
export const flavourOf = (release: string): string | null =>
  /^[0-9][0-9.]*(?:[+~_][A-Za-z0-9.]+)*(?:-[0-9.]+(?:[+~][A-Za-z0-9.]+)?)?-([a-z][a-z0-9._-]*)$/.exec(
    release,
  )?.[1] ?? null;

/** The flavour of a kernel whose packages are RPM: SUSE's, behind its last hyphen, or Fedora's and Enterprise Linux's, behind `+`. */
export const rpmFlavourOf = (release: string): string | null =>
  /\+([a-z0-9][a-z0-9-]*)$/.exec(release)?.[1] ?? flavourOf(release);

/** The distribution that a kernel's release names (`fc40`, `el9`), as Fedora's and Enterprise Linux's do; `null` for others. */
export const rpmDistribution = (release: string): string | null =>
  /\.((?:fc|el)[0-9]+)(?:[._]|$)/.exec(release)?.[1] ?? null;

/** How a format's package managers compare versions. */
export const versionOrder = (format: RepositoryFormat): ((one: string, other: string) => number) =>
  format === 'deb'
    ? compareVersions
    : (one, other) => compareRpmVersions(rpmVersion(one), rpmVersion(other));

/** `VERSION-RELEASE`, divided. */
const rpmVersion = (text: string): RpmVersion => {
  const [, version = text, release = ''] = /^(.*)-([^-]*)$/.exec(text) ?? [];
  return { epoch: 0, version, release };
};

/**
 * The version of the distribution's package of a kernel, by what it says of itself (`uname -v`): Debian's `6.1.192-3`; Ubuntu's, which
 * counts its uploads, and is told by the release besides; `null` for a kernel that says none.
 */
export const kernelPackageVersion = (release: string, build: string | null): string | null => {
  const debian = / Debian ([0-9][A-Za-z0-9.+~:-]{0,100}) \(/.exec(build ?? '')?.[1];
  if (debian !== undefined) return debian;
  const [, base, upload] =
    /^([0-9.]+-[0-9]+)-.* #([0-9]+(?:~[0-9.]+)?)-Ubuntu /.exec(`${release} ${build ?? ''}`) ?? [];
  return base === undefined ? null : `${base}.${upload}`;
};
