import { Readable } from 'node:stream';
import type { Digest } from '../core/digest.ts';
import { errorLines } from '../core/compiler-output.ts';
import type { Blobs } from '../storage/blobs.ts';
import type { Signals } from '../storage/signals.ts';

/** A build's log: kept whole for the record, and passed on to followers about ten times a second. */
export interface BuildLog {
  write(piece: Buffer | string): void;
  /** Stores it; its digest. Followers have got all of it by then. */
  close(): Promise<Digest>;
  errorLines(): readonly string[];
}

const INTERVAL = 100;

export const startBuildLog = (
  build: string,
  run: string,
  signals: Signals,
  blobs: Blobs,
): BuildLog => {
  const pieces: Buffer[] = [];
  let waiting: Buffer[] = [];
  let sending = Promise.resolve();

  const flush = (): void => {
    if (waiting.length === 0) return;
    const text = Buffer.concat(waiting).toString('utf8');
    waiting = [];
    sending = sending.then(() => signals.appendLog(build, run, text)).catch(() => {});
  };
  const timer = setInterval(flush, INTERVAL);

  return {
    write(piece) {
      const bytes = Buffer.from(piece);
      pieces.push(bytes);
      waiting.push(bytes);
    },
    async close() {
      clearInterval(timer);
      flush();
      await sending;
      const whole = Buffer.concat(pieces);
      const { digest } = await blobs.put(Readable.from([whole], { objectMode: false }), {
        limit: whole.length,
      });
      return digest;
    },
    errorLines: () => errorLines(Buffer.concat(pieces).toString('utf8')),
  };
};
