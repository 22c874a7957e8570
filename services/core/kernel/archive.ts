import { KilnError } from '../errors.ts';
import { checkAptSources } from './apt-sources.ts';
import { readRepoFile } from './repo-file.ts';

/** What an archive's packages are, and so by which tools they are verified. */
export const ARCHIVE_KINDS = ['apt', 'rpm'] as const;
export type ArchiveKind = (typeof ARCHIVE_KINDS)[number];

/** A distribution's package archive that kernels and modules' sources are taken from: all that differs between distributions is in here. */
export interface KernelArchive {
  readonly name: string;
  readonly kind: ArchiveKind;
  /**
   * Where its packages are and who signs them: a deb822 text, as in `/etc/apt/sources.list.d/*.sources`, or a `.repo` file, as in
   * `/etc/yum.repos.d`.
   */
  readonly sources: string;
  /**
   * The packages with a kernel's headers, by name (of RPMs NAME-VERSION-RELEASE.ARCH): a regular expression with a group `release`, and
   * one `flavour` of which the newest kernel is followed.
   */
  readonly headers: string;
  /** The packages whose modules' sources are taken in, newest versions only: a regular expression; `null` for none. Of apt archives alone. */
  readonly modules: string | null;
  /** Whether those of these sources that say AUTOINSTALL are built for each new kernel of the archive. */
  readonly buildsAhead: boolean;
}

/** Checks an archive's description. Throws `KilnError('bad-request')`. */
export const checkArchive = (archive: KernelArchive): KernelArchive => {
  if (!/^[a-z0-9][a-z0-9.-]{0,63}$/.test(archive.name))
    throw bad(
      `${JSON.stringify(archive.name)} cannot be an archive’s name; use lower-case letters, digits, . and -`,
    );
  if (archive.name === 'own' || /-(staging|stable)$/.test(archive.name))
    throw bad(
      `${archive.name} cannot be an archive’s name, as package repositories are called so; choose another`,
    );
  if (archive.kind === 'apt') checkAptSources(archive.sources);
  else readRepoFile(archive.sources);
  if (!archive.headers.includes('(?<release>'))
    throw bad('the pattern for header packages needs a group (?<release>…)');
  mustBePattern(archive.headers, 'header packages');
  if (archive.modules !== null && archive.kind !== 'apt')
    throw bad('modules’ sources are taken from apt archives alone; leave --modules out');
  if (archive.modules !== null) mustBePattern(archive.modules, 'modules’ packages');
  else if (archive.buildsAhead)
    throw bad('there are no sources to build ahead; say which packages have some (--modules)');
  return archive;
};

const PATTERN_LIMIT = 300;

const mustBePattern = (pattern: string, of: string): void => {
  if (pattern.length > PATTERN_LIMIT)
    throw bad(`the pattern for ${of} has over ${PATTERN_LIMIT} characters; shorten it`);
  try {
    RegExp(pattern);
  } catch (cause) {
    throw new KilnError(
      'bad-request',
      `the pattern for ${of} is not a valid regular expression; correct it`,
      { cause },
    );
  }
};

const bad = (message: string): KilnError => new KilnError('bad-request', message);

/** A package with a kernel's headers. */
export interface HeaderPackage {
  readonly name: string;
  /** The kernel's (`uname -r`). */
  readonly release: string;
  readonly flavour: string;
}

/**
 * What tells an archive's header packages by their names; `null` for others. A flavour that the release does not have in it stands behind
 * it: SUSE's kernel `6.4.0-150600.23.42-default` comes in `kernel-default-devel-6.4.0-150600.23.42.1.x86_64`.
 */
export const headerReader = ({
  headers,
}: Pick<KernelArchive, 'headers'>): ((name: string) => HeaderPackage | null) => {
  const pattern = new RegExp(`^(?:${headers})$`);
  return (name) => {
    const { release, flavour = '' } = pattern.exec(name)?.groups ?? {};
    if (release === undefined) return null;
    const isWhole = release.includes(flavour);
    return { name, release: isWhole ? release : `${release}-${flavour}`, flavour };
  };
};

/** The newest header package of each flavour among the names of an archive's packages, in which newer ones come after older ones. */
export const newestHeaders = (
  archive: Pick<KernelArchive, 'headers'>,
  names: readonly string[],
): readonly HeaderPackage[] => {
  const read = headerReader(archive);
  const newest = new Map<string, HeaderPackage>();
  for (const name of names) {
    const found = read(name);
    if (found !== null) newest.set(found.flavour, found);
  }
  return [...newest.values()];
};

/**
 * The packages with headers among an archive's, by the releases that they are for: those that the pattern has, and what Debian and Ubuntu
 * call `linux-headers-RELEASE`, whatever the pattern. Newer ones come after older ones, in `names` and in what this gives.
 */
export const headersByRelease = (
  archive: Pick<KernelArchive, 'headers'>,
  names: readonly string[],
): ReadonlyMap<string, string> => {
  const read = headerReader(archive);
  const found = new Map<string, string>();
  for (const name of names) {
    const release = read(name)?.release ?? /^linux-headers-(\d.*)$/.exec(name)?.[1];
    if (release === undefined) continue;
    // What comes last is the newest.
    found.delete(release);
    found.set(release, name);
  }
  return found;
};

/** The packages among an archive's that modules' sources are taken from. */
export const modulePackages = (
  { modules }: Pick<KernelArchive, 'modules'>,
  names: readonly string[],
): readonly string[] => {
  if (modules === null) return [];
  const pattern = new RegExp(`^(?:${modules})$`);
  return names.filter((name) => pattern.test(name)).sort();
};

/**
 * Whether a package is a part of the headers that depend on it. Debian calls these `linux-headers-6.1.0-44-common` and
 * `linux-kbuild-6.1`; Ubuntu `linux-headers-6.8.0-40` and, of a kernel that is no release's own, `linux-hwe-6.8-headers-6.8.0-40`;
 * SUSE `kernel-devel`.
 */
export const isHeaderPart = (name: string): boolean =>
  /^(linux|kernel)-([^/]+-)?(headers|kbuild|devel)(-|$)/.test(name);
