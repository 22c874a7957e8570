import { KilnError } from '../errors.ts';

/** An RPM repository, as a `.repo` file names it. */
export interface RpmSources {
  /** Its address, without a slash at the end: http, https or file. */
  readonly base: string;
  /** Files of the public keys that sign it. */
  readonly keys: readonly string[];
  /** Whether its metadata is signed, and not its packages alone. */
  readonly isMetadataSigned: boolean;
}

/** Settings that must say yes where they are there: without them, something unsigned would be taken. */
const MUST = ['gpgcheck', 'pkg_gpgcheck', 'sslverify'];
/** Settings that are read. */
const READ = ['baseurl', 'gpgkey', 'repo_gpgcheck', 'enabled'];
/** Settings that say nothing about where packages are and who signs them. */
const OTHERS = [
  'name',
  'type',
  'autorefresh',
  'keeppackages',
  'priority',
  'cost',
  'countme',
  'metadata_expire',
  'skip_if_unavailable',
  'enabled_metadata',
  'failovermethod',
];

type Section = ReadonlyMap<string, string>;

/** Reads the text of a `.repo` file (dnf.conf(5), zypper(8)) with one repository that is enabled. Throws `KilnError('bad-request')`. */
export const readRepoFile = (text: string): RpmSources => {
  const enabled = sectionsOf(text).filter((each) => isYes(each.get('enabled') ?? '1', 'enabled'));
  const [section] = enabled;
  if (section === undefined || enabled.length > 1)
    throw bad(
      `the .repo file has ${enabled.length} repositories that are enabled; give one, and follow others as archives of their own`,
    );
  for (const key of section.keys()) {
    if (key === 'metalink' || key === 'mirrorlist')
      throw bad(`the .repo file names its mirrors by ${key}; give the baseurl of one instead`);
    if (![...MUST, ...READ, ...OTHERS].includes(key))
      throw bad(
        `the .repo file sets ${key}; leave it out, as what it could change is not followed (known are ${[...READ, ...MUST].join(', ')})`,
      );
  }
  for (const key of MUST)
    if (!isYes(section.get(key) ?? '1', key))
      throw bad(`the .repo file has ${key}=0; leave it out, so that nothing unsigned is taken`);
  return {
    base: baseOf(section.get('baseurl') ?? ''),
    keys: keysOf(section.get('gpgkey') ?? ''),
    isMetadataSigned: isYes(section.get('repo_gpgcheck') ?? '1', 'repo_gpgcheck'),
  };
};

const sectionsOf = (text: string): readonly Section[] => {
  const sections: Map<string, string>[] = [];
  let last = '';
  for (const line of text.split(/\r?\n/)) {
    if (/^\s*([#;]|$)/.test(line)) continue;
    const section = sections.at(-1);
    const [, key, value = ''] = /^([A-Za-z_]+)\s*=\s*(.*)$/.exec(line) ?? [];
    if (/^\[[^\]]+\]\s*$/.test(line)) {
      sections.push(new Map());
      last = '';
    } else if (section !== undefined && key !== undefined) {
      last = key.toLowerCase();
      if (section.has(last)) throw bad(`the .repo file sets ${last} twice; say it once`);
      section.set(last, value.trim());
    } else if (section !== undefined && last !== '' && /^\s/.test(line)) {
      section.set(last, `${section.get(last) ?? ''} ${line.trim()}`.trim());
    } else {
      throw bad(
        `the .repo file has a line that is neither [NAME] nor KEY=VALUE: ${JSON.stringify(line.slice(0, 60))}`,
      );
    }
  }
  return sections;
};

const isYes = (value: string, key: string): boolean => {
  if (/^(1|yes|true|on)$/i.test(value)) return true;
  if (/^(0|no|false|off)$/i.test(value)) return false;
  throw bad(`the .repo file has ${key}=${value.slice(0, 40)}; write 1 or 0`);
};

/** The one address in a value. */
const baseOf = (value: string): string => {
  if (value === '') throw bad('the .repo file has no baseurl; add one');
  const url = addressIn('baseurl', value);
  if (!['http:', 'https:', 'file:'].includes(url.protocol))
    throw bad('the .repo file’s baseurl may be http, https or file');
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '')
    throw bad(
      'the .repo file’s baseurl has a user, a password, ? or #; whoever may list archives could read it: use an address without',
    );
  return url.href.replace(/\/+$/, '');
};

const keysOf = (value: string): readonly string[] => {
  const all = value.split(/[\s,]+/).filter((each) => each !== '');
  if (all.length === 0)
    throw bad('the .repo file names no gpgkey; add one, as without it nothing can be verified');
  return all.map((each) => {
    const url = addressIn('gpgkey', each);
    if (url.protocol !== 'file:')
      throw bad(
        'the .repo file has a gpgkey that is no file; put the key on the service’s machine, and write gpgkey=file:///PATH',
      );
    return decodeURIComponent(url.pathname);
  });
};

const addressIn = (key: string, value: string): URL => {
  if (value.includes('$'))
    throw bad(`the .repo file’s ${key} has a variable; write out what it stands for here`);
  if (/[\s,]/.test(value) || !URL.canParse(value))
    throw bad(`the .repo file’s ${key} must be one address, as https://example.org/repository`);
  const url = new URL(value);
  if (url.protocol === 'file:' && url.host !== '')
    throw bad(`the .repo file’s ${key} must be file:///PATH, with three slashes`);
  return url;
};

const bad = (message: string): KilnError => new KilnError('bad-request', message);
