import { constants } from 'node:fs';
import { mkdir, open, rename, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { hexOf, type Digest } from '../core/digest.ts';
import { hasErrno } from '../core/errors.ts';
import { damaged, PIECE, type ByteSource } from './verified-bytes.ts';

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;

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

/** The bytes of a file, which is closed with it. */
export const fileSource = (handle: FileHandle): ByteSource => {
  let at = 0;
  return {
    async next() {
      const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(PIECE), 0, PIECE, at);
      at += bytesRead;
      return buffer.subarray(0, bytesRead);
    },
    close: () => handle.close(),
  };
};
