import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, rename, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { hexOf, toDigest, type Digest } from '../core/digest.ts';
import { hasErrno, KilnError } from '../core/errors.ts';

/** Some of a blob's bytes, the first and the last of them counted from 0. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;
const PIECE = 1024 * 1024;

const damaged = (digest: Digest, what: string, cause?: unknown): KilnError =>
  new KilnError(
    'internal',
    `blob ${digest} is damaged: ${what}; have the admin remove it from the blobs’ directory, then send or make it again`,
    { cause },
  );

/**
 * Works in the folder that a blob belongs in, which is no link: a path through its handle stays in it whatever is done to its name
 * meanwhile (as openat(2) does). Makes it if `isMade`; `null` if it is not there.
 */
export const inFolderOf = async <T>(
  directory: string,
  digest: Digest,
  isMade: boolean,
  work: (path: string) => Promise<T>,
): Promise<T | null> => {
  const folder = join(directory, hexOf(digest).slice(0, 2));
  if (isMade) await mkdir(folder, { mode: 0o700 }).catch(ifErrno('EEXIST'));
  let handle: FileHandle;
  try {
    handle = await open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return null;
    if (hasErrno(error, 'ELOOP') || hasErrno(error, 'ENOTDIR'))
      throw damaged(digest, 'the directory that it belongs in is a file or a link', error);
    throw error;
  }
  try {
    return await work(`/proc/self/fd/${handle.fd}/${hexOf(digest)}`);
  } finally {
    await handle.close();
  }
};

const ifErrno =
  (errno: string) =>
  (error: unknown): void => {
    if (!hasErrno(error, errno)) throw error;
  };

/** Moves a file into a blob's place, and over anything there but a directory. */
export const takePlace = async (file: string, path: string, digest: Digest): Promise<void> => {
  try {
    await rename(file, path);
  } catch (error) {
    if (hasErrno(error, 'EISDIR') || hasErrno(error, 'ENOTEMPTY'))
      throw damaged(digest, 'a directory is in its place', error);
    throw error;
  }
};

/** Opens a blob, which is a plain file. `null` if it is not there; throws `KilnError('internal')` where something else stands in its place. */
export const openBlobFile = (
  directory: string,
  digest: Digest,
): Promise<{ readonly handle: FileHandle; readonly size: number } | null> =>
  inFolderOf(directory, digest, false, async (path) => {
    let handle: FileHandle;
    try {
      handle = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) return null;
      if (hasErrno(error, 'ELOOP')) throw damaged(digest, 'a link is in its place', error);
      // A socket, or a device that is not there.
      if (hasErrno(error, 'ENXIO'))
        throw damaged(digest, 'something other than a file is in its place', error);
      throw error;
    }
    const stats = await handle.stat();
    if (stats.isFile()) return { handle, size: stats.size };
    await handle.close();
    throw damaged(digest, 'something other than a file is in its place');
  });

/** The bytes of a file from front to back, hashed all of them, and given out those in the range. */
const pieces = (handle: FileHandle, digest: Digest, { start, end }: ByteRange) => {
  const hash = createHash('sha256');
  let at = 0;
  let isOver = false;
  /** The last piece is kept back until the whole digest is checked. */
  let held: Buffer | null = null;

  return {
    /** The next piece; `null` at the end. Throws `KilnError('internal')` instead of the last one where the digest is another. */
    async next(): Promise<Buffer | null> {
      while (!isOver) {
        const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(PIECE), 0, PIECE, at);
        const piece = buffer.subarray(0, bytesRead);
        hash.update(piece);
        const wanted = piece.subarray(Math.max(0, start - at), Math.max(0, end + 1 - at));
        at += bytesRead;
        if (bytesRead === 0) {
          isOver = true;
          if (toDigest(hash.digest('hex')) !== digest)
            throw damaged(digest, 'its bytes have another digest');
          return held;
        }
        if (wanted.length === 0) continue;
        const before = held;
        held = wanted;
        if (before !== null) return before;
      }
      return null;
    },
  };
};

/**
 * A blob's bytes as a stream that closes the file. It ends well only if the whole file has the digest: else it fails before its last
 * piece is out, and a blob of one piece fails before anything is.
 */
export const readVerified = async (
  handle: FileHandle,
  digest: Digest,
  range: ByteRange = { start: 0, end: Infinity },
): Promise<Readable> => {
  const source = pieces(handle, digest, range);
  let first: Buffer | null;
  try {
    first = await source.next();
  } catch (error) {
    await handle.close();
    throw error;
  }
  const all = async function* (): AsyncGenerator<Buffer> {
    for (let piece = first; piece !== null; piece = await source.next()) yield piece;
  };
  const stream = Readable.from(all(), { objectMode: false, highWaterMark: PIECE });
  stream.once('close', () => void handle.close());
  return stream;
};
