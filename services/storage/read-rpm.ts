import { Readable } from 'node:stream';
import type { ClaimedEntry } from '../core/tree/tarball-rules.ts';
import { KilnError } from '../core/errors.ts';
import { createByteReader, type ByteReader } from './byte-reader.ts';

/** How an RPM package begins (source: the RPM file format, "Lead"). */
export const RPM_MAGIC = Buffer.from([0xed, 0xab, 0xee, 0xdb]);

const LEAD = 96;
const HEADER_MAGIC = 0x8eade801;
/** Of an RPM's own headers, in bytes; a kernel's with 20,000 files has some MiB. */
const HEADER_LIMIT = 64 * 1024 ** 2;

const broken = (): KilnError =>
  new KilnError('bad-tarball', 'the RPM package is malformed; download it again');

/** The compressed cpio archive in an RPM package. Throws `KilnError('bad-tarball')`. */
export const openRpm = async (rpm: AsyncIterable<Buffer>): Promise<Readable> => {
  const reader = createByteReader(rpm);
  await reader.read(LEAD);
  const signature = await skipHeader(reader);
  await reader.read((8 - (signature % 8)) % 8);
  await skipHeader(reader);
  return reader.rest();
};

const skipHeader = async (reader: ByteReader): Promise<number> => {
  const intro = await reader.read(16);
  if (intro.length < 16 || intro.readUInt32BE(0) !== HEADER_MAGIC) throw broken();
  const size = intro.readUInt32BE(8) * 16 + intro.readUInt32BE(12);
  if (size > HEADER_LIMIT) throw broken();
  for await (const _ of reader.slice(size));
  return size;
};

const CPIO_HEADER = 110;
const NAME_LIMIT = 4096;
const TYPES: Readonly<Record<number, string>> = {
  0o100000: 'file',
  0o040000: 'directory',
  0o120000: 'symlink',
};

/**
 * Walks a cpio archive of the "new ASCII" kind (source: cpio(5)). Files with several names come as one file and hard links to it.
 * At most `limit` names may wait for their content.
 * Throws `KilnError('bad-tarball')`.
 */
export const readCpio = async (
  cpio: AsyncIterable<Buffer>,
  visit: (entry: ClaimedEntry, body: AsyncIterable<Buffer>) => Promise<void>,
  limit: number,
): Promise<void> => {
  const reader = createByteReader(cpio);
  /** Names of a file whose content comes with a later one. */
  const waiting = new Map<string, ClaimedEntry[]>();
  let held = 0;
  for (;;) {
    const header = (await reader.read(CPIO_HEADER)).toString('latin1');
    if (!/^07070[12][0-9A-Fa-f]{104}$/.test(header)) throw broken();
    const field = (index: number): number =>
      Number.parseInt(header.slice(6 + index * 8, 14 + index * 8), 16);
    const [mode, links, size, nameSize] = [field(1), field(4), field(6), field(11)];
    if (nameSize > NAME_LIMIT) throw broken();
    const name = (await reader.read(nameSize)).toString('utf8').replace(/\0$/, '');
    await reader.read((4 - ((CPIO_HEADER + nameSize) % 4)) % 4);
    if (name === 'TRAILER!!!') break;
    const type = TYPES[mode & 0o170000] ?? 'special file';
    const entry = { name, type, mode: mode & 0o7777, size };
    const inode = `${field(7)}:${field(8)}:${field(0)}`;
    if (type === 'file' && links > 1 && size === 0) {
      const others = waiting.get(inode);
      if (others === undefined) waiting.set(inode, [entry]);
      else others.push(entry);
      held += 1;
      if (held > limit)
        throw new KilnError(
          'too-large',
          `the package has over ${limit} entries, the limit of this service; send only what the build needs`,
        );
      continue;
    }
    if (type === 'symlink') {
      if (size > NAME_LIMIT) throw broken();
      const linkname = (await reader.read(size)).toString('utf8');
      await visit({ ...entry, size: 0, linkname }, nothing());
    } else {
      const body = reader.slice(size);
      await visit(entry, body);
      for await (const _ of body);
    }
    await reader.read((4 - (size % 4)) % 4);
    for (const other of waiting.get(inode) ?? [])
      await visit({ ...other, type: 'link', linkname: name }, nothing());
    waiting.delete(inode);
  }
  // What waits at the end are empty files with several names.
  for (const [first, ...others] of waiting.values()) {
    if (first === undefined) continue;
    await visit(first, nothing());
    for (const other of others)
      await visit({ ...other, type: 'link', linkname: first.name }, nothing());
  }
};

/** The body of an entry without bytes. */
const nothing = (): AsyncIterable<Buffer> => Readable.from([]);
