import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { toDigest, type Digest } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';

/** Some of a blob's bytes, the first and the last of them counted from 0. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** A blob's bytes from front to back, wherever they are kept. */
export interface ByteSource {
  /** The next of them, about `PIECE` at once; none at the end. */
  next(): Promise<Buffer>;
  /** Gives back what is held for it, whether it is at its end or not. */
  close(): Promise<void>;
}

/** Bytes that are read at once: 1 MiB. */
export const PIECE = 1024 * 1024;

/** The error of a blob whose bytes are not to be had, and what is wrong with it. */
export const damaged = (digest: Digest, what: string, cause?: unknown): KilnError =>
  new KilnError(
    'internal',
    `blob ${digest} is damaged: ${what}; have the admin remove it from the blobs’ directory or bucket, then send or make it again`,
    { cause },
  );

/** The bytes of a source, hashed all of them, and given out those in the range. */
const pieces = (source: ByteSource, digest: Digest, { start, end }: ByteRange) => {
  const hash = createHash('sha256');
  let at = 0;
  let isOver = false;
  /** The last piece is kept back until the whole digest is checked. */
  let held: Buffer | null = null;

  return {
    /** The next piece; `null` at the end. Throws `KilnError('internal')` instead of the last one where the digest is another. */
    async next(): Promise<Buffer | null> {
      while (!isOver) {
        const piece = await source.next();
        hash.update(piece);
        const wanted = piece.subarray(Math.max(0, start - at), Math.max(0, end + 1 - at));
        at += piece.length;
        if (piece.length === 0) {
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
 * A blob's bytes as a stream that closes the source. It ends well only if all of the source has the digest: else it fails before its
 * last piece is out, and a blob of one piece fails before anything is.
 */
export const readVerified = async (
  source: ByteSource,
  digest: Digest,
  range: ByteRange = { start: 0, end: Infinity },
): Promise<Readable> => {
  const given = pieces(source, digest, range);
  let first: Buffer | null;
  try {
    first = await given.next();
  } catch (error) {
    await source.close();
    throw error;
  }
  const all = async function* (): AsyncGenerator<Buffer> {
    for (let piece = first; piece !== null; piece = await given.next()) yield piece;
  };
  const stream = Readable.from(all(), { objectMode: false, highWaterMark: PIECE });
  stream.once('close', () => void source.close());
  return stream;
};

/** All of a blob in memory. Throws `too-large` beyond `limit` bytes, and as the stream of `readVerified` does. */
export const readWhole = async (
  source: ByteSource,
  digest: Digest,
  limit: number,
): Promise<Buffer> => {
  const whole: Buffer[] = [];
  let size = 0;
  for await (const piece of await readVerified(source, digest)) {
    size += (piece as Buffer).length;
    if (size > limit) throw tooLarge(digest, limit);
    whole.push(piece as Buffer);
  }
  return Buffer.concat(whole);
};

/** The error of a blob that is larger than its reader wants it. */
export const tooLarge = (digest: Digest, limit: number): KilnError =>
  new KilnError('too-large', `blob ${digest} is over ${limit} bytes`);
