import { KilnError } from '../core/errors.ts';
import type { ByteReader } from './byte-reader.ts';

/** The headers of RPM packages (source: the RPM file format, version 4; rpm's `rpmtag.h`). */

const LEAD = 96;
const MAGIC = 0x8eade801;
const HEADER_LIMIT = 64 * 1024 ** 2;

/** The tags that a package of ours may have, by their numbers. What is not here could have something done on hosts. */
const TAGS = {
  headeri18ntable: 100,
  headerimmutable: 63,
  name: 1000,
  version: 1001,
  release: 1002,
  summary: 1004,
  description: 1005,
  buildtime: 1006,
  buildhost: 1007,
  size: 1009,
  license: 1014,
  group: 1016,
  os: 1021,
  arch: 1022,
  filesizes: 1028,
  filemodes: 1030,
  filerdevs: 1033,
  filemtimes: 1034,
  filedigests: 1035,
  filelinktos: 1036,
  fileflags: 1037,
  fileusername: 1039,
  filegroupname: 1040,
  sourcerpm: 1044,
  fileverifyflags: 1045,
  providename: 1047,
  requireflags: 1048,
  requirename: 1049,
  requireversion: 1050,
  rpmversion: 1064,
  filedevices: 1095,
  fileinodes: 1096,
  filelangs: 1097,
  provideflags: 1112,
  provideversion: 1113,
  dirindexes: 1116,
  basenames: 1117,
  dirnames: 1118,
  optflags: 1122,
  payloadformat: 1124,
  payloadcompressor: 1125,
  payloadflags: 1126,
  platform: 1132,
  filecolors: 1140,
  fileclass: 1141,
  classdict: 1142,
  filedependsx: 1143,
  filedependsn: 1144,
  dependsdict: 1145,
  filedigestalgo: 5011,
  encoding: 5062,
  transfiletriggerscripts: 5076,
  transfiletriggerscriptprog: 5077,
  transfiletriggername: 5079,
  transfiletriggerindex: 5080,
  transfiletriggerversion: 5081,
  transfiletriggerflags: 5082,
  transfiletriggerpriorities: 5085,
  payloaddigest: 5092,
  payloaddigestalgo: 5093,
  payloaddigestalt: 5097,
} as const;
export type RpmTag = keyof typeof TAGS;

/** What a package says of itself. */
export interface RpmTags {
  /** A tag's texts; none where it is not there. */
  texts(tag: RpmTag): readonly string[];
  numbers(tag: RpmTag): readonly number[];
}

const broken = (): KilnError =>
  new KilnError('unverified', 'the RPM package is malformed; make it again');

/**
 * Reads past the lead and the header of signatures; what the main header says, and the reader is at the payload. Throws
 * `KilnError('unverified')` where it is malformed, or has a tag that no package of ours has.
 */
export const readRpmHeaders = async (reader: ByteReader): Promise<RpmTags> => {
  await reader.read(LEAD);
  const signatures = await readHeader(reader);
  await reader.read((8 - (signatures.size % 8)) % 8);
  const { entries, store } = await readHeader(reader);
  const known = new Map(Object.entries(TAGS).map(([tag, number]) => [number, tag as RpmTag]));
  const found = new Map<RpmTag, Entry>();
  for (const entry of entries) {
    const tag = known.get(entry.tag as (typeof TAGS)[RpmTag]);
    if (tag === undefined)
      throw new KilnError(
        'unverified',
        `the RPM package has a tag ${entry.tag}, which is not planned`,
      );
    if (found.has(tag)) throw broken();
    found.set(tag, entry);
  }
  return {
    texts(tag) {
      const entry = found.get(tag);
      return entry === undefined ? [] : textsOf(entry, store);
    },
    numbers(tag) {
      const entry = found.get(tag);
      return entry === undefined ? [] : numbersOf(entry, store);
    },
  };
};

interface Entry {
  readonly tag: number;
  readonly type: number;
  readonly offset: number;
  readonly count: number;
}

const readHeader = async (
  reader: ByteReader,
): Promise<{ entries: readonly Entry[]; store: Buffer; size: number }> => {
  const intro = await reader.read(16);
  if (intro.length < 16 || intro.readUInt32BE(0) !== MAGIC) throw broken();
  const [count, size] = [intro.readUInt32BE(8), intro.readUInt32BE(12)];
  if (count * 16 + size > HEADER_LIMIT) throw broken();
  const index = await reader.read(count * 16);
  const store = await reader.read(size);
  if (index.length < count * 16 || store.length < size) throw broken();
  const entries = Array.from({ length: count }, (_, at) => ({
    tag: index.readUInt32BE(at * 16),
    type: index.readUInt32BE(at * 16 + 4),
    offset: index.readUInt32BE(at * 16 + 8),
    count: index.readUInt32BE(at * 16 + 12),
  }));
  return { entries, store, size: count * 16 + size };
};

const STRING = new Set([6, 8, 9]);
const textsOf = ({ type, offset, count }: Entry, store: Buffer): readonly string[] => {
  if (!STRING.has(type)) throw broken();
  const texts: string[] = [];
  let at = offset;
  for (let text = 0; text < count; text += 1) {
    const end = store.indexOf(0, at);
    if (end < 0 || at > store.length) throw broken();
    texts.push(store.toString('utf8', at, end));
    at = end + 1;
  }
  return texts;
};

const WIDTH: Readonly<Record<number, 2 | 4>> = { 3: 2, 4: 4 };
const numbersOf = ({ type, offset, count }: Entry, store: Buffer): readonly number[] => {
  const width = WIDTH[type];
  if (width === undefined || offset + count * width > store.length) throw broken();
  return Array.from({ length: count }, (_, at) =>
    width === 2 ? store.readUInt16BE(offset + at * 2) : store.readUInt32BE(offset + at * 4),
  );
};
