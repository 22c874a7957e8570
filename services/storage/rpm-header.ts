import { KilnError } from '../core/errors.ts';

/**
 * RPM packages in the one form that rpmbuild writes: what rpm could read in another way than this does is refused (source: the RPM file
 * format, version 4; rpm's `rpmtag.h` and `header.c`).
 */

const LEAD = 96;
/** Magic, version 3.0, a binary package. */
const LEAD_BEGINS = Buffer.from([0xed, 0xab, 0xee, 0xdb, 3, 0, 0, 0]);
/** The kind of signatures, and room that is not used. */
const LEAD_ENDS = Buffer.from([0, 5, ...Array<number>(16).fill(0)]);
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
export const RPM_TAGS = {
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
} as const satisfies Tags;
export type RpmTag = keyof typeof RPM_TAGS;
type Tags = Readonly<Record<string, readonly [number: number, type: Type]>>;

/** The tags of the header of signatures: digests and sizes, and the room for a signature (source: rpm's `rpmsigtag`). */
const SIGNATURE_TAGS = {
  signature: [268, BINARY],
  sha1: [269, STRING],
  sha256: [273, STRING],
  size: [1000, INT32],
  md5: [1004, BINARY],
  payloadsize: [1007, INT32],
  reserved: [1008, BINARY],
} as const satisfies Tags;

/** A tag's value: texts or numbers; bytes in hexadecimal. */
export type RpmValues = readonly string[] | readonly number[];

/** A package taken apart. */
export interface ReadRpm {
  readonly lead: Buffer;
  /** The main header's signature; `null` if it has none. */
  readonly signature: Buffer | null;
  /** The main header, and all from that on. */
  readonly header: Buffer;
  readonly rest: Buffer;
  readonly payload: Buffer;
  /** What the main header says. */
  readonly tags: Readonly<Partial<Record<RpmTag, RpmValues>>>;
}

const broken = (): KilnError =>
  new KilnError('unverified', 'the RPM package is malformed; make it again');

/** Takes a package apart. Throws `KilnError('unverified')` where it is malformed, or has a tag that no package of ours has. */
export const readRpm = (rpm: Buffer): ReadRpm => {
  const lead = rpm.subarray(0, LEAD);
  if (
    !lead.subarray(0, LEAD_BEGINS.length).equals(LEAD_BEGINS) ||
    !lead.subarray(-LEAD_ENDS.length).equals(LEAD_ENDS)
  )
    throw broken();
  const signatures = readHeader(rpm.subarray(LEAD), SIGNATURES, SIGNATURE_TAGS);
  const begin = LEAD + Math.ceil(signatures.length / 8) * 8;
  if (!isZero(rpm.subarray(LEAD + signatures.length, begin))) throw broken();
  const rest = rpm.subarray(begin);
  const { length, values } = readHeader(rest, IMMUTABLE, RPM_TAGS);
  const [hex] = signatures.values.signature ?? [];
  return {
    lead,
    signature: hex === undefined ? null : Buffer.from(String(hex), 'hex'),
    header: rest.subarray(0, length),
    rest,
    payload: rest.subarray(length),
    tags: values,
  };
};

/** The regions of both headers, which are tags of their own. */
const SIGNATURES = 62;
const IMMUTABLE = 63;

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
  const header = Buffer.concat([
    entryOf(MAGIC | 0, 0, count, store.length + ENTRY),
    entryOf(SIGNATURES, BINARY, store.length, ENTRY),
    ...entries,
    store,
    entryOf(SIGNATURES, BINARY, -count * ENTRY, ENTRY),
  ]);
  return Buffer.concat([header, Buffer.alloc(-header.length & 7)]);
};

/** Reads a header whose only region has all entries, in the order of their tags, and all of its bytes. */
const readHeader = <Known extends Tags>(
  bytes: Buffer,
  region: number,
  tags: Known,
): {
  readonly values: Readonly<Partial<Record<keyof Known, RpmValues>>>;
  readonly length: number;
} => {
  if (bytes.length < ENTRY || bytes.readUInt32BE(0) !== MAGIC || bytes.readUInt32BE(4) !== 0)
    throw broken();
  const [count, size] = [bytes.readUInt32BE(8), bytes.readUInt32BE(12)];
  const begin = ENTRY + count * ENTRY;
  const length = begin + size;
  if (length > Math.min(bytes.length, HEADER_LIMIT) || count < 1 || size < ENTRY) throw broken();
  const index = bytes.subarray(ENTRY, begin);
  const store = bytes.subarray(begin, length - ENTRY);
  if (
    !entryOf(region, BINARY, store.length, ENTRY).equals(index.subarray(0, ENTRY)) ||
    !entryOf(region, BINARY, -count * ENTRY, ENTRY).equals(bytes.subarray(length - ENTRY, length))
  )
    throw broken();
  const known = new Map(Object.entries(tags).map(([name, [tag, type]]) => [tag, { name, type }]));
  const values: Partial<Record<keyof Known, RpmValues>> = {};
  let [at, before] = [0, 0];
  for (let entry = ENTRY; entry < index.length; entry += ENTRY) {
    const [tag, type, offset, items] = [0, 4, 8, 12].map((field) =>
      index.readUInt32BE(entry + field),
    ) as [number, number, number, number];
    const expected = known.get(tag);
    if (expected === undefined)
      throw new KilnError('unverified', `the RPM package has a tag ${tag}, which is not planned`);
    const aligned = Math.ceil(at / ALIGNMENT[expected.type]) * ALIGNMENT[expected.type];
    if (
      tag <= before ||
      type !== expected.type ||
      offset !== aligned ||
      !isZero(store.subarray(at, aligned))
    )
      throw broken();
    const read = valuesAt(expected.type, store, aligned, items);
    values[expected.name as keyof Known] = read.values;
    [at, before] = [read.end, tag];
  }
  if (at !== store.length) throw broken();
  return { values, length };
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
): { readonly values: RpmValues; readonly end: number } => {
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
