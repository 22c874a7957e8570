import { KilnError } from '../errors.ts';

/** A distribution's package archive that kernels and modules' sources are taken from: all that differs between distributions is in here. */
export interface KernelArchive {
  readonly name: string;
  /** Where its packages are and who signs them: a deb822 text, as in `/etc/apt/sources.list.d/*.sources`. */
  readonly sources: string;
  /**
   * The packages with a kernel's headers: a regular expression with a group `release`, and one `flavour` of which the newest kernel is
   * followed.
   */
  readonly headers: string;
  /** The packages whose modules' sources are taken in, newest versions only: a regular expression; `null` for none. */
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
  for (const stanza of archive.sources.split(/\n\s*\n/).filter((each) => each.trim() !== ''))
    checkStanza(stanza);
  if (archive.sources.trim() === '')
    throw bad('the sources are empty; give the text of a .sources file (sources.list(5), deb822)');
  if (!archive.headers.includes('(?<release>'))
    throw bad('the pattern for header packages needs a group (?<release>…)');
  mustBePattern(archive.headers, 'header packages');
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

/** The fields that a stanza may have: where packages are and who signs them. Others, such as `Trusted`, could allow unsigned ones. */
const FIELDS = [
  'types',
  'uris',
  'suites',
  'components',
  'architectures',
  'signed-by',
  'check-valid-until',
];

const checkStanza = (stanza: string): void => {
  const fields = new Map<string, string>();
  let last = '';
  for (const line of stanza.split('\n')) {
    if (line.startsWith('#') || line.trim() === '') continue;
    const [, name, value = ''] = /^([^:\s]+)\s*:(.*)$/.exec(line) ?? [];
    if (name !== undefined) last = name.toLowerCase();
    else if (!/^\s/.test(line) || last === '')
      throw bad('the sources need Types, URIs and Suites in each stanza (sources.list(5), deb822)');
    fields.set(last, `${fields.get(last) ?? ''} ${name === undefined ? line : value}`.trim());
  }
  const other = [...fields.keys()].find((name) => !FIELDS.includes(name));
  if (other !== undefined)
    throw bad(
      `the sources have the field ${other}; leave it out, as only ${FIELDS.join(', ')} are taken, so that nothing unsigned is`,
    );
  if (!fields.has('types') || !fields.has('uris') || !fields.has('suites'))
    throw bad('the sources need Types, URIs and Suites in each stanza (sources.list(5), deb822)');
  if ((fields.get('signed-by') ?? '') === '')
    throw bad(
      'the sources name no Signed-By keyring; add one, as without it nothing can be verified',
    );
  if (!/^(yes|no)$/.test(fields.get('check-valid-until') ?? 'yes'))
    throw bad(
      'the sources’ Check-Valid-Until is yes or no; with no, metadata may be as old as it likes, as a snapshot’s is',
    );
  if (!(fields.get('uris') ?? '').split(/\s+/).every((uri) => /^(https?|file):\//.test(uri)))
    throw bad('the sources may use http, https and file URIs only');
};

const bad = (message: string): KilnError => new KilnError('bad-request', message);

/** The newest header package of each flavour among an archive's package names. */
export const newestHeaders = (
  { headers }: Pick<KernelArchive, 'headers'>,
  names: readonly string[],
): readonly { readonly name: string; readonly release: string }[] => {
  const pattern = new RegExp(`^(?:${headers})$`);
  const newest = new Map<string, { name: string; release: string }>();
  for (const name of names) {
    const groups = pattern.exec(name)?.groups;
    if (groups?.['release'] === undefined) continue;
    const flavour = groups['flavour'] ?? '';
    const found = { name, release: groups['release'] };
    const before = newest.get(flavour);
    if (before === undefined || isNewer(found.release, before.release)) newest.set(flavour, found);
  }
  return [...newest.values()];
};

/**
 * The packages with headers among an archive's, by the releases that they are for: those that the pattern has, and what Debian and Ubuntu
 * call `linux-headers-RELEASE`, whatever the pattern.
 */
export const headersByRelease = (
  { headers }: Pick<KernelArchive, 'headers'>,
  names: readonly string[],
): ReadonlyMap<string, string> => {
  const pattern = new RegExp(`^(?:${headers})$`);
  const found = new Map<string, string>();
  for (const name of names) {
    const release =
      pattern.exec(name)?.groups?.['release'] ?? /^linux-headers-(\d.*)$/.exec(name)?.[1];
    if (release !== undefined) found.set(release, name);
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

const isNewer = (a: string, b: string): boolean => a.localeCompare(b, 'en', { numeric: true }) > 0;
