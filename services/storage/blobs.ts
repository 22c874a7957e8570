import { createHash, randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { lstat, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Transform, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { toDigest, type Digest } from '../core/digest.ts';
import { hasErrno, KilnError } from '../core/errors.ts';
import type { KeptBlob } from '../core/policy/retention.ts';
import { inFolderOf, openBlobFile, takePlace, readVerified, type ByteRange } from './blob-file.ts';
import { listBlobs, removeOldBlob } from './old-blobs.ts';

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
      const hash = createHash('sha256');
      let size = 0;
      const meter = new Transform({
        transform(chunk: Buffer, _encoding, done) {
          size += chunk.length;
          if (size > limit) {
            done(
              new KilnError(
                'too-large',
                `the upload is over ${limit} bytes, the limit of this service`,
              ),
            );
            return;
          }
          hash.update(chunk);
          done(null, chunk);
        },
      });
      try {
        await pipeline(
          bytes,
          meter,
          createWriteStream(arrival, { flags: 'wx', mode: 0o600, flush: true }),
        );
        const digest = toDigest(hash.digest('hex'));
        if (expected !== undefined && digest !== expected) {
          throw new KilnError(
            'digest-mismatch',
            `the bytes have the digest ${digest}, not ${expected}; send them again`,
          );
        }
        await onHashed?.(digest);
        await inFolderOf(directory, digest, true, (path) => takePlace(arrival, path, digest));
        return { digest, size };
      } catch (error) {
        await rm(arrival, { force: true });
        if (hasErrno(error, 'ENOSPC') || hasErrno(error, 'EDQUOT')) {
          throw new KilnError(
            'storage-full',
            'the service’s disk is full; try again when the admin has made room',
            { cause: error },
          );
        }
        throw error;
      }
    },

    async open(digest, range) {
      const { handle } = await openFile(digest);
      return readVerified(handle, digest, range);
    },

    async check(digest) {
      const { handle, size } = await openFile(digest);
      const bytes = await readVerified(handle, digest);
      for await (const _ of bytes);
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
        throw new KilnError('too-large', `blob ${digest} is over ${limit} bytes`);
      }
      const bytes = await readVerified(handle, digest);
      const whole: Buffer[] = [];
      for await (const piece of bytes) whole.push(piece as Buffer);
      return Buffer.concat(whole);
    },
  };
};

/** Removes what an interrupted upload left. Only the process that takes uploads may, at its start. */
export const clearArrivals = async (directory: string): Promise<void> => {
  const arrivals = join(directory, 'arriving');
  const dayAgo = Date.now() - 24 * 3600 * 1000;
  for (const name of await readdir(arrivals).catch(() => [])) {
    const stats = await lstat(join(arrivals, name)).catch(() => null);
    if (stats !== null && stats.mtimeMs < dayAgo) await rm(join(arrivals, name), { force: true });
  }
};
