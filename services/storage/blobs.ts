import { randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { lstat, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Digest } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import type { KeptBlob } from '../core/policy/retention.ts';
import { asStorageFull, createMeter } from './arrival.ts';
import { fileSource, inFolderOf, openBlobFile, takePlace } from './blob-file.ts';
import { listBlobs, removeOldBlob } from './old-blobs.ts';
import { readVerified, readWhole, tooLarge, type ByteRange } from './verified-bytes.ts';

/** What is known of a stored blob. */
export interface BlobInfo {
  readonly digest: Digest;
  readonly size: number;
}

/** How one blob is written. */
export interface PutOptions {
  /** Refused with `digest-mismatch` unless the bytes have it. */
  readonly expected?: Digest;
  /** Refused with `too-large` beyond it. In bytes. */
  readonly limit: number;
  /** Called when all has arrived and is as expected, before the blob is there. */
  readonly onHashed?: (digest: Digest) => Promise<void>;
}

/** Content-addressed bytes. A blob is there whole or not at all, under the digest of what it holds. */
export interface Blobs {
  put(bytes: Readable, options: PutOptions): Promise<BlobInfo>;
  /** The stored blob's size, or `null`. Its bytes are not looked at. */
  find(digest: Digest): Promise<BlobInfo | null>;
  /**
   * Streams a blob, or its bytes from `start` to `end`, both of them included. The stream fails before its last bytes are out unless
   * all of the blob has its digest. Throws `not-found`, or `internal` where what stands there is damaged.
   */
  open(digest: Digest, range?: ByteRange): Promise<Readable>;
  /** A whole blob of at most `limit` bytes, its digest checked on the way. */
  read(digest: Digest, limit: number): Promise<Buffer>;
  /** Reads a whole blob to see whether it has its digest. Throws `not-found`, or `internal` where it has not. */
  check(digest: Digest): Promise<BlobInfo>;
  /** Removes a blob; one that is not there is no error. */
  remove(digest: Digest): Promise<void>;
  /** Removes a blob that came before a time (milliseconds since 1970); false if it did not, or is not there. */
  removeOld(digest: Digest, arrivedBefore: number): Promise<boolean>;
  /** All of them, in no order. */
  list(): AsyncIterable<KeptBlob>;
  /** Removes what interrupted uploads left a day ago or longer. Only the process that takes uploads may, at its start. */
  clearArrivals(): Promise<void>;
}

/** Blobs as files below a directory: written beside, hashed on the way, renamed into place. */
export const openBlobDirectory = async (directory: string): Promise<Blobs> => {
  const arrivals = join(directory, 'arriving');
  await mkdir(arrivals, { recursive: true, mode: 0o700 });
  if (!(await lstat(arrivals)).isDirectory())
    throw new KilnError(
      'bad-request',
      `${arrivals} is a link, and Kiln makes none in the blobs’ directory; remove it`,
    );

  const openFile = async (digest: Digest) => {
    const opened = await openBlobFile(directory, digest);
    if (opened === null) throw new KilnError('not-found', `there is no blob ${digest}`);
    return opened;
  };

  return {
    // Anything but a plain file counts as absent, so that the blob is sent again and takes that place.
    find: (digest) =>
      inFolderOf(directory, digest, false, async (path) => {
        const stats = await lstat(path).catch(() => null);
        return stats?.isFile() === true ? { digest, size: stats.size } : null;
      }).catch((error: unknown) => {
        if (error instanceof KilnError) return null;
        throw error;
      }),

    async put(bytes, { expected, limit, onHashed }) {
      const arrival = join(arrivals, randomUUID());
      const meter = createMeter(limit);
      try {
        await pipeline(
          bytes,
          meter.stream,
          createWriteStream(arrival, { flags: 'wx', mode: 0o600, flush: true }),
        );
        const { digest, size } = meter.end(expected);
        await onHashed?.(digest);
        await inFolderOf(directory, digest, true, (path) => takePlace(arrival, path, digest));
        return { digest, size };
      } catch (error) {
        await rm(arrival, { force: true });
        throw asStorageFull(error);
      }
    },

    async open(digest, range) {
      const { handle } = await openFile(digest);
      return readVerified(fileSource(handle), digest, range);
    },

    async check(digest) {
      const { handle, size } = await openFile(digest);
      for await (const _ of await readVerified(fileSource(handle), digest));
      return { digest, size };
    },

    remove: async (digest) => {
      await inFolderOf(directory, digest, false, (path) => rm(path, { force: true }));
    },

    removeOld: (digest, arrivedBefore) => removeOldBlob(directory, arrivals, digest, arrivedBefore),

    list: () => listBlobs(directory),

    async read(digest, limit) {
      const { handle, size } = await openFile(digest);
      if (size > limit) {
        await handle.close();
        throw tooLarge(digest, limit);
      }
      return readWhole(fileSource(handle), digest, limit);
    },

    async clearArrivals() {
      const dayAgo = Date.now() - 24 * 3600 * 1000;
      for (const name of await readdir(arrivals)) {
        const stats = await lstat(join(arrivals, name)).catch(() => null);
        if (stats !== null && stats.mtimeMs < dayAgo)
          await rm(join(arrivals, name), { force: true });
      }
    },
  };
};
