import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { link, lstat, open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { toDigest, type Digest } from '../core/digest.ts';
import { hasErrno } from '../core/errors.ts';
import type { KeptBlob } from '../core/policy/retention.ts';
import { inFolderOf } from './blob-file.ts';

/** Blobs by their age. */

const { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } = constants;

/** All blobs below a directory, which are plain files, without following a link. */
export async function* listBlobs(directory: string): AsyncGenerator<KeptBlob> {
  for (const folder of await readdir(directory)) {
    if (!/^[0-9a-f]{2}$/.test(folder)) continue;
    const handle = await open(join(directory, folder), O_RDONLY | O_DIRECTORY | O_NOFOLLOW).catch(
      () => null,
    );
    if (handle === null) continue;
    try {
      const inside = `/proc/self/fd/${handle.fd}`;
      for (const name of await readdir(inside)) {
        if (!/^[0-9a-f]{64}$/.test(name) || !name.startsWith(folder)) continue;
        const stats = await lstat(join(inside, name)).catch(() => null);
        if (stats?.isFile() !== true) continue;
        yield { digest: toDigest(name), size: stats.size, arrivedAt: stats.mtimeMs };
      }
    } finally {
      await handle.close();
    }
  }
}

/**
 * Removes a blob that came before a time; false if it did not, or is not there. One that is stored anew meanwhile stays: it is taken
 * aside, looked at there, and put back.
 */
export const removeOldBlob = async (
  directory: string,
  arrivals: string,
  digest: Digest,
  arrivedBefore: number,
): Promise<boolean> => {
  const isRemoved = await inFolderOf(directory, digest, false, async (path) => {
    const leaving = join(arrivals, randomUUID());
    const isOld = async (place: string): Promise<boolean> => {
      const stats = await lstat(place).catch(() => null);
      return stats?.isFile() === true && stats.mtimeMs < arrivedBefore;
    };
    if (!(await isOld(path))) return false;
    try {
      await rename(path, leaving);
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) return false;
      throw error;
    }
    const isGoing = await isOld(leaving);
    if (!isGoing)
      await link(leaving, path).catch((error: unknown) => {
        // The blob was stored again meanwhile.
        if (!hasErrno(error, 'EEXIST')) throw error;
      });
    await rm(leaving, { force: true });
    return isGoing;
  });
  return isRemoved === true;
};
