import { createHash, randomUUID } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Transform, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { digestOf, hexOf, toDigest, type Digest } from '../core/digest.ts';
import { hasErrno, KilnError } from '../core/errors.ts';

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

/** Some of a blob's bytes, the first and the last of them counted from 0. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** Content-addressed bytes. A blob is there whole or not at all, under the digest of what it holds. */
export interface Blobs {
  put(bytes: Readable, options: PutOptions): Promise<BlobInfo>;
  /** The stored blob's size, or `null`. */
  find(digest: Digest): Promise<BlobInfo | null>;
  /** Streams a blob, or its bytes from `start` to `end`, both of them included. Throws `not-found`. */
  open(digest: Digest, range?: ByteRange): Promise<Readable>;
  /** A whole blob of at most `limit` bytes, its digest checked on the way. */
  read(digest: Digest, limit: number): Promise<Buffer>;
  /** Removes a blob; one that is not there is no error. */
  remove(digest: Digest): Promise<void>;
}

/** Blobs as files below a directory: written beside, hashed on the way, renamed into place. */
export const openBlobDirectory = async (directory: string): Promise<Blobs> => {
  const arrivals = join(directory, 'arriving');
  await mkdir(arrivals, { recursive: true, mode: 0o700 });
  const pathOf = (digest: Digest): string =>
    join(directory, hexOf(digest).slice(0, 2), hexOf(digest));

  const find = async (digest: Digest): Promise<BlobInfo | null> => {
    const stats = await stat(pathOf(digest)).catch(() => null);
    return stats === null ? null : { digest, size: stats.size };
  };

  return {
    find,

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
        await pipeline(bytes, meter, createWriteStream(arrival, { mode: 0o600, flush: true }));
        const digest = toDigest(hash.digest('hex'));
        if (expected !== undefined && digest !== expected) {
          throw new KilnError(
            'digest-mismatch',
            `the bytes have the digest ${digest}, not ${expected}; send them again`,
          );
        }
        await onHashed?.(digest);
        await mkdir(dirname(pathOf(digest)), { recursive: true, mode: 0o700 });
        await rename(arrival, pathOf(digest));
        return { digest, size };
      } catch (error) {
        await rm(arrival, { force: true });
        if (hasErrno(error, 'ENOSPC') || hasErrno(error, 'EDQUOT')) {
          throw new KilnError(
            'storage-full',
            'the service’s disk is full; nothing was kept, try again when there is room',
            { cause: error },
          );
        }
        throw error;
      }
    },

    async open(digest, range) {
      if ((await find(digest)) === null)
        throw new KilnError('not-found', `there is no blob ${digest}`);
      return createReadStream(pathOf(digest), { highWaterMark: 1024 * 1024, ...range });
    },

    remove: (digest) => rm(pathOf(digest), { force: true }),

    async read(digest, limit) {
      const info = await find(digest);
      if (info === null) throw new KilnError('not-found', `there is no blob ${digest}`);
      if (info.size > limit)
        throw new KilnError('too-large', `blob ${digest} is over ${limit} bytes`);
      const bytes = await readFile(pathOf(digest));
      if (digestOf(bytes) !== digest) {
        throw new KilnError('internal', `blob ${digest} is damaged: its bytes have another digest`);
      }
      return bytes;
    },
  };
};

/** Removes what an interrupted upload left. Only the process that takes uploads may, at its start. */
export const clearArrivals = async (directory: string): Promise<void> => {
  const arrivals = join(directory, 'arriving');
  const dayAgo = Date.now() - 24 * 3600 * 1000;
  for (const name of await readdir(arrivals).catch(() => [])) {
    const stats = await stat(join(arrivals, name)).catch(() => null);
    if (stats !== null && stats.mtimeMs < dayAgo) await rm(join(arrivals, name), { force: true });
  }
};
