import { Readable } from 'node:stream';
import { KilnError } from '../core/errors.ts';

/** Takes a stream apart by counted bytes. */
export interface ByteReader {
  /** The next `size` bytes; fewer only where the stream ends. */
  read(size: number): Promise<Buffer>;
  /** The next `size` bytes, which stay to be read; fewer only where the stream ends. */
  peek(size: number): Promise<Buffer>;
  /** The next `size` bytes as a stream, which must be read to its end before anything else is. Throws `bad-tarball` if they end early. */
  slice(size: number): Readable;
  /** All that is left, as a stream. */
  rest(): Readable;
}

/** A reader of one stream. */
export const createByteReader = (stream: AsyncIterable<Buffer>): ByteReader => {
  const pieces = stream[Symbol.asyncIterator]();
  let held: Buffer = Buffer.alloc(0);
  let isEnded = false;

  const more = async (): Promise<boolean> => {
    if (isEnded) return false;
    const { value, done } = await pieces.next();
    if (done === true) {
      isEnded = true;
      return false;
    }
    held = held.length === 0 ? value : Buffer.concat([held, value]);
    return true;
  };

  const take = (size: number): Buffer => {
    const taken = held.subarray(0, size);
    held = held.subarray(taken.length);
    return taken;
  };

  async function* counted(size: number): AsyncGenerator<Buffer> {
    let left = size;
    while (left > 0) {
      if (held.length === 0 && !(await more())) {
        throw new KilnError(
          'bad-tarball',
          'the tarball is broken or cut short; make and send it again',
        );
      }
      const piece = take(left);
      left -= piece.length;
      yield piece;
    }
  }

  async function* whole(): AsyncGenerator<Buffer> {
    try {
      while (held.length > 0 || (await more())) yield take(held.length);
    } finally {
      await pieces.return?.();
    }
  }

  const fill = async (size: number): Promise<void> => {
    while (held.length < size && (await more()));
  };

  return {
    async read(size) {
      await fill(size);
      return take(size);
    },
    async peek(size) {
      await fill(size);
      return held.subarray(0, size);
    },
    slice: (size) => Readable.from(counted(size), { objectMode: false }),
    rest: () => Readable.from(whole(), { objectMode: false }),
  };
};
