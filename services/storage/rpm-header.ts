import { KilnError } from '../core/errors.ts';
import type { ByteReader } from './byte-reader.ts';

/**
 * The headers of RPM packages, in the one form that rpmbuild writes: what rpm could read in another way than this does is refused
 * (source: the RPM file format, version 4; rpm's `rpmtag.h` and `header.c`).
 */

const LEAD = 96;
/** Magic, version 3.0, a binary package. */
const LEAD_BEGINS = Buffer.from([0xed, 0xab, 0xee, 0xdb, 3, 0, 0, 0]);
const MAGIC = 0x8eade801;
const HEADER_LIMIT = 64 * 1024 ** 2;
/** The bytes of an entry, and of a region's end. */
const ENTRY = 16;

const INT16 = 3;
const INT32 = 4;
const STRING = 6;
const BINARY = 7;
const STRINGS = 8;
const I18N = 9;
type Type =
  typeof INT16 | typeof INT32 | typeof STRING | typeof BINARY | typeof STRINGS | typeof I18N;

/** The tags that a package of ours may have, with their numbers and types. What is not here could have something done on hosts. */
const TAGS = {
  headeri18ntable: [100, STRINGS],
  name: [1000, STRING],
  version: [1001, STRING],
  release: [1002, STRING],
  summary: [1004, I18N],
  description: [1005, I18N],
  buildtime: [1006, INT32],
  buildhost: [1007, STRING],
  size: [1009, INT32],
  license: [1014, STRING],
  packager: [1015, STRING],
  group: [1016, I18N],
  os: [1021, STRING],
  arch: [1022, STRING],
  preun: [1025, STRING],
  filesizes: [1028, INT32],
  filemodes: [1030, INT16],
  filerdevs: [1033, INT16],
  filemtimes: [1034, INT32],
  filedigests: [1035, STRINGS],
  filelinktos: [1036, STRINGS],
  fileflags: [1037, INT32],
  fileusername: [1039, STRINGS],
  filegroupname: [1040, STRINGS],
  sourcerpm: [1044, STRING],
  fileverifyflags: [1045, INT32],
  providename: [1047, STRINGS],
  requireflags: [1048, INT32],
  requirename: [1049, STRINGS],
  requireversion: [1050, STRINGS],
  rpmversion: [1064, STRING],
  changelogtime: [1080, INT32],
  changelogname: [1081, STRINGS],
  changelogtext: [1082, STRINGS],
  preunprog: [1087, STRING],
  filedevices: [1095, INT32],
  fileinodes: [1096, INT32],
  filelangs: [1097, STRINGS],
  provideflags: [1112, INT32],
  provideversion: [1113, STRINGS],
  dirindexes: [1116, INT32],
  basenames: [1117, STRINGS],
  dirnames: [1118, STRINGS],
  optflags: [1122, STRING],
  payloadformat: [1124, STRING],
  payloadcompressor: [1125, STRING],
  payloadflags: [1126, STRING],
  platform: [1132, STRING],
  filecolors: [1140, INT32],
  fileclass: [1141, INT32],
  classdict: [1142, STRINGS],
  filedigestalgo: [5011, INT32],
  encoding: [5062, STRING],
  transfiletriggerscripts: [5076, STRINGS],
  transfiletriggerscriptprog: [5077, STRINGS],
  transfiletriggername: [5079, STRINGS],
  transfiletriggerindex: [5080, INT32],
  transfiletriggerversion: [5081, STRINGS],
  transfiletriggerflags: [5082, INT32],
  transfiletriggerpriorities: [5085, INT32],
  payloaddigest: [5092, STRINGS],
  payloaddigestalgo: [5093, INT32],
  payloaddigestalt: [5097, STRINGS],
} as const satisfies Readonly<Record<string, readonly [number: number, type: Type]>>;
export type RpmTag = keyof typeof TAGS;

/** The tags of the header of signatures: digests and sizes, and the room for a signature (source: rpm's `rpmsigtag`). */
const SIGNATURE_TAGS = {
  signature: [268, BINARY],
  sha1: [269, STRING],
  sha256: [273, STRING],
  size: [1000, INT32],
  md5: [1004, BINARY],
  payloadsize: [1007, INT32],
  reserved: [1008, BINARY],
} as const;

/** What a package says of itself. */
export interface RpmTags {
  /** A tag's texts; none where it is not there. */
  texts(tag: RpmTag): readonly string[];
  numbers(tag: RpmTag): readonly number[];
}

const broken = (): KilnError =>
  new KilnError('unverified', 'the RPM package is malformed; make it again');

const SIGNATURES = 62;
const IMMUTABLE = 63;

/**
 * Reads past the lead and the header of signatures; what the main header says, and the reader is at the payload. Throws
 * `KilnError('unverified')` where it is malformed, or has a tag that no package of ours has.
 */
export const readRpmHeaders = async (reader: ByteReader): Promise<RpmTags> => {
  await readRpmSignature(reader);
  const { values } = await readHeader(reader, IMMUTABLE, TAGS);
  return {
    texts: (tag) => (values.get(TAGS[tag][0]) ?? []).map(String),
    numbers: (tag) => (values.get(TAGS[tag][0]) ?? []).map(Number),
  };
};

/** Reads the lead and the header of signatures; the signature of the main header, `null` if there is none. Throws `unverified`. */
export const readRpmSignature = async (reader: ByteReader): Promise<Buffer | null> => {
  const lead = await reader.read(LEAD);
  if (!lead.subarray(0, LEAD_BEGINS.length).equals(LEAD_BEGINS)) throw broken();
  const { values, size } = await readHeader(reader, SIGNATURES, SIGNATURE_TAGS);
  if (!isZero(await reader.read((8 - (size % 8)) % 8))) throw broken();
  const [hex] = values.get(SIGNATURE_TAGS.signature[0]) ?? [];
  return hex === undefined ? null : Buffer.from(String(hex), 'hex');
};

/** A header of signatures: the main header's signature and digest, and the bytes that follow. */
export const writeRpmSignatures = (of: {
  readonly signature: Buffer;
  readonly sha256: string;
  readonly size: number;
}): Buffer => {
  const size = Buffer.alloc(4);
  size.writeUInt32BE(of.size);
  const values = [
    [...SIGNATURE_TAGS.signature, of.signature, of.signature.length],
    [...SIGNATURE_TAGS.sha256, Buffer.from(`${of.sha256}\0`), 1],
    [...SIGNATURE_TAGS.size, size, 1],
  ] as const;
  let store = Buffer.alloc(0);
  const entries = values.map(([tag, type, bytes, count]) => {
    store = Buffer.concat([store, Buffer.alloc(-store.length & (ALIGNMENT[type] - 1))]);
    const entry = entryOf(tag, type, store.length, count);
    store = Buffer.concat([store, bytes]);
    return entry;
  });
  const count = entries.length + 1;
  const region = entryOf(SIGNATURES, BINARY, store.length, ENTRY);
  const end = entryOf(SIGNATURES, BINARY, -count * ENTRY, ENTRY);
  const intro = entryOf(MAGIC | 0, 0, count, store.length + ENTRY);
  const header = Buffer.concat([intro, region, ...entries, store, end]);
  return Buffer.concat([header, Buffer.alloc(-header.length & 7)]);
};

type Values = readonly string[] | readonly number[];

/** Reads a header whose only region has all entries, in the order of their tags, and all of its bytes. */
const readHeader = async (
  reader: ByteReader,
  region: number,
  tags: Readonly<Record<string, readonly [number: number, type: Type]>>,
): Promise<{ readonly values: ReadonlyMap<number, Values>; readonly size: number }> => {
  const intro = await reader.read(ENTRY);
  if (intro.length < ENTRY || intro.readUInt32BE(0) !== MAGIC || intro.readUInt32BE(4) !== 0)
    throw broken();
  const [count, length] = [intro.readUInt32BE(8), intro.readUInt32BE(12)];
  const size = count * ENTRY + length;
  if (size > HEADER_LIMIT || count < 1 || length < ENTRY) throw broken();
  const index = await reader.read(count * ENTRY);
  const store = await reader.read(length);
  if (index.length + store.length < size) throw broken();
  const end = length - ENTRY;
  if (
    !entryOf(region, BINARY, end, ENTRY).equals(index.subarray(0, ENTRY)) ||
    !entryOf(region, BINARY, -count * ENTRY, ENTRY).equals(store.subarray(end))
  )
    throw broken();
  const types = new Map(Object.values(tags));
  const values = new Map<number, Values>();
  let [at, before] = [0, 0];
  for (let entry = 1; entry < count; entry += 1) {
    const [tag, type, offset, items] = [0, 4, 8, 12].map((field) =>
      index.readUInt32BE(entry * ENTRY + field),
    ) as [number, number, number, number];
    const expected = types.get(tag);
    if (expected === undefined)
      throw new KilnError('unverified', `the RPM package has a tag ${tag}, which is not planned`);
    const begin = Math.ceil(at / ALIGNMENT[expected]) * ALIGNMENT[expected];
    if (
      tag <= before ||
      type !== expected ||
      offset !== begin ||
      !isZero(store.subarray(at, begin))
    )
      throw broken();
    const read = valuesAt(expected, store.subarray(0, end), begin, items);
    values.set(tag, read.values);
    [at, before] = [read.end, tag];
  }
  if (at !== end) throw broken();
  return { values, size };
};

const ALIGNMENT: Readonly<Record<Type, number>> = {
  [INT16]: 2,
  [INT32]: 4,
  [STRING]: 1,
  [BINARY]: 1,
  [STRINGS]: 1,
  [I18N]: 1,
};

const entryOf = (...fields: readonly number[]): Buffer => {
  const entry = Buffer.alloc(ENTRY);
  fields.forEach((field, at) => entry.writeInt32BE(field, at * 4));
  return entry;
};

const isZero = (bytes: Buffer): boolean => bytes.every((byte) => byte === 0);

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The values that begin at a place of the store, and where they end. */
const valuesAt = (
  type: Type,
  store: Buffer,
  begin: number,
  items: number,
): { readonly values: Values; readonly end: number } => {
  if (items < 1 || (type === STRING && items !== 1)) throw broken();
  const width = { [INT16]: 2, [INT32]: 4, [BINARY]: 1 }[type as number];
  if (width !== undefined) {
    const end = begin + items * width;
    if (end > store.length) throw broken();
    if (type === BINARY) return { values: [store.toString('hex', begin, end)], end };
    const values = Array.from({ length: items }, (_, at) =>
      store.readUIntBE(begin + at * width, width),
    );
    return { values, end };
  }
  const values: string[] = [];
  let at = begin;
  for (let item = 0; item < items; item += 1) {
    const end = store.indexOf(0, at);
    if (end < 0) throw broken();
    try {
      values.push(UTF8.decode(store.subarray(at, end)));
    } catch {
      throw broken();
    }
    at = end + 1;
  }
  return { values, end: at };
};
