import { Readable } from 'node:stream';
import { gunzipSync } from 'node:zlib';
import { SOURCE_DATE_EPOCH } from '../core/build/build-environment.ts';
import { digestOf, toDigest } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import type { PackagePlan, PlannedFile } from '../core/packages/plan.ts';
import { createByteReader, type ByteReader } from './byte-reader.ts';
import { unpackXz } from './decompress.ts';
import { readStrictTar, type StrictEntry } from './strict-tar.ts';

/** Texts of a package: of its control part, and those that are packed with gzip. */
const TEXT_LIMIT = 4 * 1024 ** 2;

const refuse = (plan: PackagePlan, what: string): KilnError =>
  new KilnError('unverified', `${plan.file} ${what}`);

const MAGIC = Buffer.from('!<arch>\n');
const XZ = Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]);
/** The parts of a package, in their order, as deb(5) names them and dpkg-deb -Zxz writes them. */
const PARTS = ['debian-binary', 'control.tar.xz', 'data.tar.xz'] as const;
const HEADER = 60;

/**
 * Checks that a Debian package is what its plan says, and nothing else: the same files with the same bytes, that belong to root and may
 * do no more than planned, and the same control part. It must be of the one form that dpkg-deb writes: what dpkg could read in another
 * way than this does is refused. `most` bounds what may come out of it, in bytes. Throws `KilnError('unverified')`.
 */
export const checkDeb = async (deb: Buffer, plan: PackagePlan, most: number): Promise<void> => {
  const reader = readerOf(deb);
  if (!(await reader.read(MAGIC.length)).equals(MAGIC)) throw refuse(plan, 'is no Debian package');
  const tarballs: ReadonlyMap<string, StrictEntry>[] = [];
  for (const part of PARTS) {
    const header = (await reader.read(HEADER)).toString('latin1');
    const found = /^(.{16})\d{1,12} *0 *0 *100[0-7]{3} *(\d{1,10}) *`\n$/s.exec(header);
    if (found?.[1] !== part.padEnd(16)) throw refuse(plan, `has no ${part} where one is to be`);
    const size = Number(found[2]);
    if (part === 'debian-binary') {
      if (size !== 4 || (await reader.read(size)).toString('latin1') !== '2.0\n')
        throw refuse(plan, 'is of another version of Debian packages');
    } else tarballs.push(await readPart(reader, size, plan, most));
    if (size % 2 === 1 && (await reader.read(1))[0] !== 0x0a)
      throw refuse(plan, 'has bytes between its parts');
  }
  if ((await reader.read(1)).length > 0) throw refuse(plan, 'has more parts than it is to have');
  const [control = new Map(), data = new Map()] = tarballs;
  checkData(data, plan);
  checkControl(control, data, plan);
};

const readerOf = (bytes: Buffer): ByteReader =>
  createByteReader(Readable.from([bytes], { objectMode: false }));

/** What dpkg-deb's own settings take to unpack, and some room. */
const XZ_MEMORY = '256MiB';

/** A tarball in xz. */
const readPart = async (
  reader: ByteReader,
  size: number,
  plan: PackagePlan,
  most: number,
): Promise<ReadonlyMap<string, StrictEntry>> => {
  const part = await reader.read(size);
  if (!part.subarray(0, XZ.length).equals(XZ))
    throw refuse(plan, 'has a part that is not packed with xz');
  const tar = await unpackXz(part, most, XZ_MEMORY);
  if (tar === 'too-large') throw refuse(plan, `unpacks to over ${most} bytes`);
  if (tar === 'broken') throw refuse(plan, 'cannot be unpacked');
  const entries = await readStrictTar(readerOf(tar), (what) => refuse(plan, what));
  for (const { place, mtime } of entries.values())
    if (mtime !== SOURCE_DATE_EPOCH) throw refuse(plan, `has ${place} with a time of its own`);
  return entries;
};

const checkData = (data: ReadonlyMap<string, StrictEntry>, plan: PackagePlan): void => {
  const directories = new Set(['/']);
  for (const { place } of plan.files) {
    const parts = place.split('/').slice(0, -1);
    for (let depth = 2; depth <= parts.length; depth += 1)
      directories.add(parts.slice(0, depth).join('/'));
  }
  const planned = new Map(plan.files.map((file) => [file.place, file]));
  for (const [place, found] of data) {
    const file = planned.get(place);
    if (found.type === 'directory' && directories.has(place)) {
      mustHaveMode(found, 0o755, plan);
      continue;
    }
    if (file === undefined || found.type !== 'file')
      throw refuse(plan, `has ${place}, which is not planned`);
    mustHaveMode(found, file.executable === true ? 0o755 : 0o644, plan);
    if (!holds(found, file)) throw refuse(plan, `has other bytes in ${place} than planned`);
  }
  for (const place of planned.keys()) if (!data.has(place)) throw refuse(plan, `lacks ${place}`);
};

const holds = ({ sha256, text }: StrictEntry, { content }: PlannedFile): boolean => {
  if ('blob' in content) return toDigest(sha256) === content.blob;
  if ('text' in content) return toDigest(sha256) === digestOf(content.text);
  if (text === null || !('gzip' in content)) return false;
  try {
    return gunzipSync(text, { maxOutputLength: TEXT_LIMIT }).toString('utf8') === content.gzip;
  } catch {
    return false;
  }
};

const checkControl = (
  control: ReadonlyMap<string, StrictEntry>,
  data: ReadonlyMap<string, StrictEntry>,
  plan: PackagePlan,
): void => {
  const sums = [...data]
    .filter(([, { type }]) => type === 'file')
    .map(([place, { md5 }]) => ({ path: place.slice(1), md5 }))
    .toSorted((one, other) => (one.path < other.path ? -1 : 1))
    .map(({ path, md5 }) => `${md5}  ${path}\n`)
    .join('');
  const texts = { ...plan.control, ...(sums === '' ? {} : { md5sums: sums }) };
  for (const [place, { type, mode, text }] of control) {
    if (type === 'directory' && place === '/') continue;
    const expected = texts[place.slice(1) as keyof typeof texts];
    if (type !== 'file' || (expected === undefined && place !== '/md5sums'))
      throw refuse(plan, `has ${place} in its control part, which is not planned`);
    if (mode !== (expected?.startsWith('#!') === true ? 0o755 : 0o644))
      throw refuse(plan, `has ${place} in its control part with other permissions than planned`);
    if (text?.toString('utf8') !== (expected ?? ''))
      throw refuse(plan, `has another ${place.slice(1)} in its control part than planned`);
  }
  for (const name of Object.keys(texts))
    if (!control.has(`/${name}`)) throw refuse(plan, `lacks ${name} in its control part`);
};

const mustHaveMode = ({ place, mode }: StrictEntry, planned: number, plan: PackagePlan): void => {
  if (mode !== planned) throw refuse(plan, `has ${place} with other permissions than planned`);
};
