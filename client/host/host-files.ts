import { constants } from 'node:fs';
import { open, readdir, readlink, realpath } from 'node:fs/promises';
import { dirname, join, resolve, sep } from 'node:path';
import type { Host } from './host.ts';

/** A path below a host's root, links followed; `null` if nothing is there or it leads out of the root. */
const placeBelow = async ({ root }: Host, path: string): Promise<string | null> => {
  const place = await realpath(join(root, path)).catch(() => null);
  if (place === null) return null;
  const inside = root === '/' ? '/' : `${root}${sep}`;
  return place.startsWith(inside) ? place : null;
};

const PIECE = 64 * 1024;

/**
 * A file of a host, whole. `null` if it is not there, cannot be read, is no plain file, lies outside of the host's root or has more than
 * `limit` bytes. Files of /proc and /sys, which do not know their size, can be read too.
 */
export const readHostFile = async (
  host: Host,
  path: string,
  limit: number,
): Promise<Buffer | null> => {
  const place = await placeBelow(host, path);
  if (place === null) return null;
  const file = await open(place, constants.O_RDONLY | constants.O_NONBLOCK).catch(() => null);
  if (file === null) return null;
  try {
    if (!(await file.stat()).isFile()) return null;
    const pieces: Buffer[] = [];
    let size = 0;
    for (;;) {
      const piece = Buffer.alloc(PIECE);
      const { bytesRead } = await file.read(piece, 0, PIECE, null);
      if (bytesRead === 0) return Buffer.concat(pieces, size);
      size += bytesRead;
      if (size > limit) return null;
      pieces.push(piece.subarray(0, bytesRead));
    }
  } catch {
    return null;
  } finally {
    await file.close();
  }
};

/** A file as `readHostFile` reads it, as text without white space at its ends. */
export const readHostText = async (
  host: Host,
  path: string,
  limit: number,
): Promise<string | null> => {
  const bytes = await readHostFile(host, path, limit);
  return bytes === null ? null : bytes.toString('utf8').trim();
};

/** A link's target as an absolute path on its host, whether or not anything is there; `null` if there is no link. */
export const linkTarget = async (host: Host, path: string): Promise<string | null> => {
  const link = await readlink(join(host.root, path)).catch(() => null);
  return link === null ? null : resolve('/', dirname(path), link);
};

/** Whether a host has something at a path. */
export const isOnHost = async (host: Host, path: string): Promise<boolean> =>
  (await placeBelow(host, path)) !== null;

/** The names in a directory of a host, sorted; none if it is not there. */
export const namesOnHost = async (host: Host, path: string): Promise<readonly string[]> => {
  const place = await placeBelow(host, path);
  return place === null ? [] : (await readdir(place).catch(() => [])).sort();
};
