import { createHash } from 'node:crypto';
import { Transform } from 'node:stream';
import { toDigest, type Digest } from '../core/digest.ts';
import { hasErrno, KilnError } from '../core/errors.ts';

/** Bytes on their way to become a blob: counted and hashed. */
export interface Meter {
  /** Passes the bytes on; fails with `too-large` beyond the limit. */
  readonly stream: Transform;
  /**
   * What has passed, once all of it has: digest, and size in bytes. Throws `digest-mismatch` where another one is expected. To be called
   * once.
   */
  end(expected?: Digest): { readonly digest: Digest; readonly size: number };
}

/** Makes a meter for at most `limit` bytes. */
export const createMeter = (limit: number): Meter => {
  const hash = createHash('sha256');
  let size = 0;
  const stream = new Transform({
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
  return {
    stream,
    end(expected) {
      const digest = toDigest(hash.digest('hex'));
      if (expected !== undefined && digest !== expected)
        throw new KilnError(
          'digest-mismatch',
          `the bytes have the digest ${digest}, not ${expected}; send them again`,
        );
      return { digest, size };
    },
  };
};

/** A failure to write: where the disk is full, the error that says so; else as it is. */
export const asStorageFull = (error: unknown): unknown =>
  hasErrno(error, 'ENOSPC') || hasErrno(error, 'EDQUOT')
    ? new KilnError(
        'storage-full',
        'the service’s disk is full; try again when the admin has made room',
        { cause: error },
      )
    : error;
