import { KilnError } from '../errors.ts';
import { createXmlReader, type Attributes } from '../format/xml.ts';
import type { RpmVersion } from './rpm-version.ts';

/** A digest of a file of a repository, by an algorithm that holds. */
export interface Checksum {
  readonly algorithm: 'sha256' | 'sha384' | 'sha512';
  readonly hex: string;
}

/** A file of a repository, as its metadata announces it. */
export interface AnnouncedFile {
  /** Its path from the repository's address. */
  readonly location: string;
  readonly checksum: Checksum;
  /** In bytes. */
  readonly size: number;
}

/** What `repodata/repomd.xml` says. */
export interface RepoIndex {
  /** When the metadata was made, in seconds since 1970. */
  readonly madeAt: number;
  /** The list of packages. */
  readonly primary: AnnouncedFile;
  /** The bytes of that list decompressed, where it is said. */
  readonly openSize: number | null;
}

/** A package that a repository announces. */
export interface AnnouncedPackage extends AnnouncedFile, RpmVersion {
  readonly name: string;
  readonly arch: string;
  readonly requires: readonly RpmRequirement[];
}

/** A package that another one needs; in just that version, where there is one. */
export interface RpmRequirement {
  readonly name: string;
  readonly exactly:
    (Pick<RpmVersion, 'epoch' | 'version'> & { readonly release: string | null }) | null;
}

/** `NAME-VERSION-RELEASE.ARCH`, as `rpm -q` and file names have it. */
export const fullName = ({
  name,
  version,
  release,
  arch,
}: Pick<AnnouncedPackage, 'name' | 'version' | 'release' | 'arch'>): string =>
  `${name}-${version}-${release}.${arch}`;

const INDEX = 'repodata/repomd.xml';
const LIST = 'the list of packages (primary.xml)';

/** Reads `repomd.xml`. Throws `KilnError('unverified')`. */
export const readRepoIndex = (xml: string): RepoIndex => {
  const reader = createXmlReader(INDEX);
  let file: FileParts | null = null;
  const primaries: FileParts[] = [];
  let madeAt = 0;
  for (const event of reader.write(xml)) {
    if (event.kind === 'open') {
      if (event.name === 'data') file = {};
      if (event.name === 'data' && event.attributes().get('type') === 'primary')
        primaries.push((file = {}));
      if (file !== null) noteFile(file, event.name, event.attributes);
    } else {
      if (file !== null && event.name === 'checksum') file.hex = event.text;
      if (file !== null && event.name === 'size') file.size = event.text;
      if (file !== null && event.name === 'open-size') file.openSize = event.text;
      if (event.name === 'timestamp' || (event.name === 'revision' && isTime(event.text)))
        madeAt = Math.max(madeAt, Math.floor(Number(event.text)));
      if (event.name === 'data') file = null;
    }
  }
  reader.end();
  const [primary] = primaries;
  if (primary === undefined || primaries.length > 1)
    throw wrong(`${INDEX} names ${primaries.length} lists of packages (primary) instead of one`);
  if (!(madeAt > 0 && Number.isSafeInteger(madeAt)))
    throw wrong(`${INDEX} does not say when it was made (timestamp), so older could not be told`);
  const openSize = /^[0-9]{1,12}$/.test(primary.openSize ?? '') ? Number(primary.openSize) : null;
  return { madeAt, primary: fileOf(primary, INDEX), openSize };
};

/** A revision may be any word; most are the time in seconds. */
const isTime = (text: string): boolean => /^[0-9]{10}$/.test(text.trim());

/** What was read of a file so far. */
interface FileParts {
  algorithm?: string | undefined;
  hex?: string;
  size?: string | undefined;
  openSize?: string;
  href?: string | undefined;
  base?: string | undefined;
}

const noteFile = (file: FileParts, name: string, attributes: () => Attributes): void => {
  if (name === 'checksum') file.algorithm = attributes().get('type');
  if (name !== 'location') return;
  file.href = attributes().get('href');
  file.base = attributes().get('xml:base');
};

const fileOf = (
  { algorithm, hex = '', size = '', href = '', base }: FileParts,
  from: string,
): AnnouncedFile => {
  const where = JSON.stringify(href.slice(0, 100));
  if (base !== undefined || !isWithin(href))
    throw wrong(`${from} has the location ${where}, which is not within the repository`);
  const length = { sha256: 64, sha384: 96, sha512: 128 }[algorithm ?? ''];
  if (length === undefined || hex.length !== length || !/^[0-9a-f]+$/.test(hex))
    throw wrong(`${from} gives no SHA-256, SHA-384 or SHA-512 for ${where}`);
  if (!/^[0-9]{1,12}$/.test(size)) throw wrong(`${from} gives no size for ${where}`);
  return {
    location: href,
    checksum: { algorithm: algorithm as Checksum['algorithm'], hex },
    size: Number(size),
  };
};

/** Whether a location is a path down from a repository's address: no way up, no other address, nothing that URLs read otherwise. */
const isWithin = (href: string): boolean =>
  href.length <= 1000 && /^(?!\.)[\w.+~^=@,-]+(\/(?!\.)[\w.+~^=@,-]+)*$/.test(href);

/** Reads a list of packages, piece by piece. */
export interface PackageReader {
  write(piece: string): void;
  /** Those that are wanted. Throws where the list is not at its end. */
  end(): readonly AnnouncedPackage[];
}

/** Of packages that are wanted. */
const COUNT_LIMIT = 10_000;
const REQUIRED_LIMIT = 1000;

/** A reader that keeps the packages that are wanted, by name and full name. Throws `KilnError('unverified')`. */
export const createPackageReader = (
  isWanted: (name: string, full: string) => boolean,
): PackageReader => {
  const reader = createXmlReader(LIST);
  const packages: AnnouncedPackage[] = [];
  let parts: PackageParts | null = null;

  const open = (name: string, attributes: () => Attributes): void => {
    if (name === 'package')
      parts = { file: {}, version: new Map(), name: '', arch: '', requires: [] };
    if (parts === null) return;
    noteFile(parts.file, name, attributes);
    if (name === 'version') parts.version = attributes();
    if (name === 'size') parts.file.size = attributes().get('package');
    if (name === 'requires' || name === 'provides') parts.list = name;
    if (name === 'entry' && parts.list === 'requires' && parts.requires.length < REQUIRED_LIMIT)
      parts.requires.push(attributes());
  };
  const close = (name: string, text: string): void => {
    if (parts === null) return;
    if (name === 'name') parts.name = text;
    if (name === 'arch') parts.arch = text;
    if (name === 'checksum') parts.file.hex = text;
    if (name !== 'package') return;
    const found = packageOf(parts, isWanted);
    parts = null;
    if (found !== null) packages.push(found);
    if (packages.length > COUNT_LIMIT)
      throw wrong(`${LIST} has over ${COUNT_LIMIT} packages with headers; narrow the pattern`);
  };

  return {
    write(piece) {
      for (const event of reader.write(piece))
        if (event.kind === 'open') open(event.name, event.attributes);
        else close(event.name, event.text);
    },
    end() {
      reader.end();
      return packages;
    },
  };
};

/** What was read of a package so far. */
interface PackageParts {
  file: FileParts;
  name: string;
  arch: string;
  version: Attributes;
  list?: string;
  requires: Attributes[];
}

/** What a kernel's headers can be of here. */
const ARCHES = ['x86_64', 'noarch'];
const WORD = /^[A-Za-z0-9][\w.+~^-]{0,127}$/;

const packageOf = (
  { file, name, arch, version: attributes, requires }: PackageParts,
  isWanted: (name: string, full: string) => boolean,
): AnnouncedPackage | null => {
  const version = versionIn(attributes);
  if (!ARCHES.includes(arch) || version === null || version.release === null || !WORD.test(name))
    return null;
  const words = { name, arch, ...version, release: version.release };
  if (!isWanted(name, fullName(words))) return null;
  return {
    ...words,
    ...fileOf(file, LIST),
    requires: requires.map((each) => ({
      name: each.get('name') ?? '',
      exactly: each.get('flags') === 'EQ' ? versionIn(each) : null,
    })),
  };
};

const versionIn = (attributes: Attributes): RpmRequirement['exactly'] => {
  const [epoch, version, release] = ['epoch', 'ver', 'rel'].map((key) => attributes.get(key));
  if (version === undefined || !WORD.test(version)) return null;
  if (!/^[0-9]{1,9}$/.test(epoch ?? '0') || !WORD.test(release ?? '0')) return null;
  return { epoch: Number(epoch ?? 0), version, release: release ?? null };
};

const wrong = (what: string): KilnError => new KilnError('unverified', what);
