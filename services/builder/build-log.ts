import { Readable } from 'node:stream';
import type { Digest } from '../core/digest.ts';
import type { Blobs } from '../storage/blobs.ts';
import { createPieces } from './pieces.ts';
import type { Signals } from '../storage/signals.ts';

/** A build's log: kept whole for the record, and passed on to followers about ten times a second. */
export interface BuildLog {
  write(piece: Buffer | string): void;
  /** Stores it; its digest. Followers have got all of it by then. */
  close(): Promise<Digest>;
  /** Its end, which is searched for errors: make stops soon after the first. */
  tail(): string;
}

const INTERVAL = 100;
/** In bytes. */
const TAIL = 1024 * 1024;

export const startBuildLog = (
  build: string,
  run: string,
  signals: Signals,
  blobs: Blobs,
): BuildLog => {
  const pieces = createPieces();
  let waiting = createPieces();
  const decoder = new TextDecoder();
  let sending = Promise.resolve();

  const flush = (): void => {
    if (waiting.length() === 0) return;
    const text = decoder.decode(waiting.whole(), { stream: true });
    waiting = createPieces();
    sending = sending.then(() => signals.appendLog(build, run, text)).catch(() => {});
  };
  const timer = setInterval(flush, INTERVAL);

  return {
    write(piece) {
      const bytes = Buffer.from(piece);
      pieces.add(bytes);
      waiting.add(bytes);
    },
    async close() {
      clearInterval(timer);
      flush();
      await sending;
      const whole = pieces.whole();
      const { digest } = await blobs.put(Readable.from([whole], { objectMode: false }), {
        limit: whole.length,
      });
      return digest;
    },
    tail: () => pieces.whole().subarray(-TAIL).toString('utf8'),
  };
};
