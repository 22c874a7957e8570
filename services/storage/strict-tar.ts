import { createHash } from 'node:crypto';
import type { ByteReader } from './byte-reader.ts';

/**
 * Tar as dpkg-deb has it written (GNU tar's format, everything root's), and nothing else: what other readers of tar could read in
 * another way than dpkg is refused here, not read. Sources: tar(5), dpkg's lib/dpkg/tarfn.c.
 */

/** A file or directory in a tarball. */
export interface StrictEntry {
  /** From `/`; `/` for the top. */
  readonly place: string;
  readonly type: 'file' | 'directory';
  readonly mode: number;
  /** In seconds since 1970. */
  readonly mtime: number;
  readonly sha256: string;
  readonly md5: string;
  /** The bytes themselves, where they are few. */
  readonly text: Buffer | null;
}

const BLOCK = 512;
const NAME_LIMIT = 4096;
const TEXT_LIMIT = 4 * 1024 ** 2;
const GNU = 'ustar  \0';

/** Reads a tarball to its end. `refuse` makes the error for what is not of this form. */
export const readStrictTar = async (
  reader: ByteReader,
  refuse: (what: string) => Error,
): Promise<ReadonlyMap<string, StrictEntry>> => {
  const found = new Map<string, StrictEntry>();
  let longName: string | null = null;
  for (;;) {
    const block = await reader.read(BLOCK);
    if (block.length < BLOCK) throw refuse('has a tarball that is cut short');
    if (isZero(block)) break;
    const header = headerOf(block, refuse);
    if (header.type === 'L') {
      if (longName !== null || header.size > NAME_LIMIT)
        throw refuse('has a name that is too long');
      const name = await reader.read(header.size);
      await padding(reader, header.size, refuse);
      if (name.at(-1) !== 0 || name.indexOf(0) !== name.length - 1)
        throw refuse('has a name that is not one');
      longName = name.subarray(0, -1).toString('latin1');
      continue;
    }
    const place = placeOf(longName ?? header.name, refuse);
    longName = null;
    if (found.has(place)) throw refuse(`has ${place} twice`);
    if (header.type === '5' && header.size !== 0)
      throw refuse(`has bytes in the directory ${place}`);
    const [sha256, md5] = [createHash('sha256'), createHash('md5')];
    const pieces: Buffer[] = [];
    if (header.size > 0)
      for await (const piece of reader.slice(header.size) as AsyncIterable<Buffer>) {
        sha256.update(piece);
        md5.update(piece);
        if (header.size <= TEXT_LIMIT) pieces.push(piece);
      }
    await padding(reader, header.size, refuse);
    found.set(place, {
      place,
      type: header.type === '5' ? 'directory' : 'file',
      mode: header.mode,
      mtime: header.mtime,
      sha256: sha256.digest('hex'),
      md5: md5.digest('hex'),
      text: header.size <= TEXT_LIMIT ? Buffer.concat(pieces) : null,
    });
  }
  // Nothing but zeros comes behind the end.
  for await (const piece of reader.rest() as AsyncIterable<Buffer>)
    if (!isZero(piece)) throw refuse('has bytes behind the end of a tarball');
  if (longName !== null) throw refuse('has a name without a file');
  return found;
};

const isZero = (bytes: Buffer): boolean => bytes.every((byte) => byte === 0);

const padding = async (
  reader: ByteReader,
  size: number,
  refuse: (what: string) => Error,
): Promise<void> => {
  const rest = await reader.read((BLOCK - (size % BLOCK)) % BLOCK);
  if (!isZero(rest)) throw refuse('has bytes between its files');
};

interface Header {
  readonly name: string;
  readonly type: '0' | '5' | 'L';
  readonly size: number;
  readonly mode: number;
  readonly mtime: number;
}

const headerOf = (block: Buffer, refuse: (what: string) => Error): Header => {
  const field = (from: number, length: number): string =>
    block.toString('latin1', from, from + length);
  const octal = (from: number, length: number): number => {
    const text = /^([0-7]+)[ \0]*$/.exec(field(from, length))?.[1];
    if (text === undefined) throw refuse('has a tarball with a number that is not octal');
    return Number.parseInt(text, 8);
  };
  const words = (from: number, length: number): string => {
    const [text = '', rest = ''] = divide(field(from, length));
    if (/[^\0]/.test(rest)) throw refuse('has a tarball with bytes behind a name');
    return text;
  };
  let sum = 0;
  block.forEach((byte, at) => {
    sum += at >= 148 && at < 156 ? 0x20 : byte;
  });
  if (sum !== octal(148, 8)) throw refuse('has a tarball with a wrong checksum');
  if (field(257, 8) !== GNU) throw refuse('has a tarball that dpkg-deb does not write');
  const type = field(156, 1);
  if (type !== '0' && type !== '5' && type !== 'L')
    throw refuse('has something else than files and directories');
  if (octal(108, 8) !== 0 || octal(116, 8) !== 0) throw refuse('has files that are not root’s');
  for (const [from, length] of [
    [265, 32],
    [297, 32],
  ] as const)
    if (!['root', ''].includes(words(from, length))) throw refuse('has files that are not root’s');
  if (words(157, 100) !== '') throw refuse('has links');
  // GNU's fields for sparse files and parts of archives.
  if (!isZero(block.subarray(345))) throw refuse('has a tarball that dpkg-deb does not write');
  return {
    name: words(0, 100),
    type,
    size: octal(124, 12),
    mode: octal(100, 8),
    mtime: octal(136, 12),
  };
};

/** A field's text, and what comes behind its end. */
const divide = (field: string): readonly string[] => {
  const end = field.indexOf('\0');
  return end < 0 ? [field, ''] : [field.slice(0, end), field.slice(end)];
};

/** A path of plain components from the top; `/` is the top itself. */
const placeOf = (name: string, refuse: (what: string) => Error): string => {
  const path = /^\.\/(.*?)\/?$/s.exec(name)?.[1];
  const isPlain =
    path === '' ||
    path?.split('/').every((part) => !['', '.', '..'].includes(part) && !/\p{Cc}/u.test(part));
  if (isPlain !== true) throw refuse(`has a file called ${JSON.stringify(name.slice(0, 80))}`);
  return `/${path}`;
};
