import { KilnError } from '../core/errors.ts';
import type { Bucket, ObjectBytes } from './bucket.ts';
import { asKilnError, isPassing } from './s3-errors.ts';
import { PIECE, type ByteSource } from './verified-bytes.ts';

/** An object that is being read. */
export interface OpenObject extends ByteSource {
  /** Its bytes, as the server says. */
  readonly size: number;
}

/** Connections in a row that may end without having brought a byte. */
const VAIN = 3;

/**
 * An object's bytes; `null` if there is none. Where a connection breaks, as it does under a reader that takes its time, reading goes on
 * behind the last byte on another one, as long as the object is the same.
 */
export const openObject = async (bucket: Bucket, key: string): Promise<OpenObject | null> => {
  const first = await bucket.get(key);
  if (first === null) return null;
  const { size, etag } = first;
  let open: ObjectBytes | null = first;
  let [at, vain] = [0, 0];

  /** The next bytes that the server sends; `null` at the end. */
  const receive = async (): Promise<Buffer | null> => {
    for (;;) {
      try {
        if (at === size) return null;
        open ??= await bucket.get(key, at, etag);
        if (open === null)
          throw new KilnError('not-found', 'the blob was removed while it was read');
        const bytes = await open.next();
        if (bytes === null) return null;
        vain = 0;
        at += bytes.length;
        return bytes;
      } catch (error) {
        open?.close();
        open = null;
        vain += 1;
        if (vain >= VAIN || !isPassing(error)) throw asKilnError(error);
      }
    }
  };

  return {
    size,
    async next() {
      const pieces: Buffer[] = [];
      let length = 0;
      while (length < PIECE) {
        const bytes = await receive();
        if (bytes === null) break;
        pieces.push(bytes);
        length += bytes.length;
      }
      return Buffer.concat(pieces);
    },
    async close() {
      open?.close();
    },
  };
};
