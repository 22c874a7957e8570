import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { gunzipSync } from 'node:zlib';
import { extract, type Header } from 'tar-stream';
import { digestOf, toDigest } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import type { PackagePlan, PlannedFile } from '../core/packages/plan.ts';
import { decompress } from './decompress.ts';
import { readDeb } from './read-deb.ts';

/** Texts of a package: of its control part, and those that are packed with gzip. */
const TEXT_LIMIT = 4 * 1024 ** 2;

/** What a tarball in a package has at one place. */
interface Found {
  readonly header: Header;
  readonly sha256: string;
  readonly md5: string;
  /** The bytes themselves, where they are few. */
  readonly text: Buffer | null;
}

const refuse = (plan: PackagePlan, what: string): KilnError =>
  new KilnError('unverified', `${plan.file} ${what}`);

/**
 * Checks that a Debian package is what its plan says, and nothing else: the same files with the same bytes, that belong to root and may
 * do no more than planned, and the same control part. `most` bounds what may come out of it, in bytes.
 * Throws `KilnError('unverified')`.
 */
export const checkDeb = async (
  deb: AsyncIterable<Buffer>,
  plan: PackagePlan,
  most: number,
): Promise<void> => {
  const parts: { control?: ReadonlyMap<string, Found>; data?: ReadonlyMap<string, Found> } = {};
  const read = async (tar: Readable): Promise<ReadonlyMap<string, Found>> => {
    try {
      return await readTar(tar, plan, most);
    } finally {
      tar.resume();
    }
  };
  await readDeb(deb, {
    async control(tar) {
      if (parts.control !== undefined) throw refuse(plan, 'has two control parts');
      parts.control = await read(tar);
    },
    async data(tar) {
      if (parts.data !== undefined) throw refuse(plan, 'has its files twice');
      parts.data = await read(tar);
    },
  });
  const { control, data } = parts;
  if (control === undefined || data === undefined) throw refuse(plan, 'has not all of its parts');
  checkData(data, plan);
  checkControl(control, data, plan);
};

const checkData = (data: ReadonlyMap<string, Found>, plan: PackagePlan): void => {
  const directories = new Set(['/']);
  for (const { place } of plan.files) {
    const parts = place.split('/').slice(0, -1);
    for (let depth = 2; depth <= parts.length; depth += 1)
      directories.add(parts.slice(0, depth).join('/'));
  }
  const planned = new Map(plan.files.map((file) => [file.place, file]));
  for (const [place, found] of data) {
    const file = planned.get(place);
    if (found.header.type === 'directory' && directories.has(place)) {
      mustBeRoots(found, place, 0o755, plan);
      continue;
    }
    if (file === undefined || found.header.type !== 'file')
      throw refuse(plan, `has ${place}, which is not planned`);
    mustBeRoots(found, place, file.executable === true ? 0o755 : 0o644, plan);
    if (!holds(found, file)) throw refuse(plan, `has other bytes in ${place} than planned`);
  }
  for (const place of planned.keys()) if (!data.has(place)) throw refuse(plan, `lacks ${place}`);
};

const holds = ({ sha256, text }: Found, { content }: PlannedFile): boolean => {
  if ('blob' in content) return toDigest(sha256) === content.blob;
  if ('text' in content) return toDigest(sha256) === digestOf(content.text);
  if (text === null) return false;
  try {
    return gunzipSync(text, { maxOutputLength: TEXT_LIMIT }).toString('utf8') === content.gzip;
  } catch {
    return false;
  }
};

const checkControl = (
  control: ReadonlyMap<string, Found>,
  data: ReadonlyMap<string, Found>,
  plan: PackagePlan,
): void => {
  const sums = [...data]
    .filter(([, { header }]) => header.type === 'file')
    .map(([place, { md5 }]) => ({ path: place.slice(1), md5 }))
    .toSorted((one, other) => (one.path < other.path ? -1 : 1))
    .map(({ path, md5 }) => `${md5}  ${path}\n`)
    .join('');
  const texts = { ...plan.control, ...(sums === '' ? {} : { md5sums: sums }) };
  for (const [place, { header, text }] of control) {
    if (header.type === 'directory' && place === '/') continue;
    const expected = texts[place.slice(1) as keyof typeof texts];
    if (header.type !== 'file' || (expected === undefined && place !== '/md5sums'))
      throw refuse(plan, `has ${place} in its control part, which is not planned`);
    if (text?.toString('utf8') !== (expected ?? ''))
      throw refuse(plan, `has another ${place.slice(1)} in its control part than planned`);
  }
  for (const name of Object.keys(texts))
    if (!control.has(`/${name}`)) throw refuse(plan, `lacks ${name} in its control part`);
};

const mustBeRoots = (
  { header: { uid, gid, mode } }: Found,
  place: string,
  most: number,
  plan: PackagePlan,
): void => {
  if (uid !== 0 || gid !== 0) throw refuse(plan, `has ${place}, which is not root’s`);
  if (((mode ?? 0) & 0o7777) !== most)
    throw refuse(plan, `has ${place} with other permissions than planned`);
};

const readTar = async (
  compressed: Readable,
  plan: PackagePlan,
  most: number,
): Promise<ReadonlyMap<string, Found>> => {
  let size = 0;
  const tar = await decompress(compressed, (bytes) => {
    size += bytes;
    if (size > most) throw refuse(plan, `unpacks to over ${most} bytes`);
  });
  const found = new Map<string, Found>();
  const unpacked = extract();
  tar.on('error', (error) => unpacked.destroy(error));
  tar.pipe(unpacked);
  for await (const entry of unpacked) {
    const place = `/${entry.header.name.replace(/^\.\//, '').replace(/\/$/, '')}`.replace(
      /^\/\.$/,
      '/',
    );
    if (found.has(place)) throw refuse(plan, `has ${place} twice`);
    const [sha256, md5] = [createHash('sha256'), createHash('md5')];
    const pieces: Buffer[] = [];
    let length = 0;
    for await (const piece of entry as AsyncIterable<Buffer>) {
      sha256.update(piece);
      md5.update(piece);
      length += piece.length;
      if (length <= TEXT_LIMIT) pieces.push(piece);
    }
    found.set(place, {
      header: entry.header,
      sha256: sha256.digest('hex'),
      md5: md5.digest('hex'),
      text: length <= TEXT_LIMIT ? Buffer.concat(pieces) : null,
    });
  }
  return found;
};
