import { Readable } from 'node:stream';
import type { Digest } from '../core/digest.ts';
import type { Blobs } from '../storage/blobs.ts';
import { createPieces } from './pieces.ts';
import type { Signals } from '../storage/signals.ts';

/** A build's log: kept whole for the record, and passed on to followers about ten times a second. */
export interface BuildLog {
  write(piece: Buffer | string): void;
  /** Stores the log and gives its digest. Followers have got all of it by then. */
  close(): Promise<Digest>;
  /** The end of the log, in which errors are looked for: make stops soon after the first. */
  tail(): string;
}

const INTERVAL = 100;
/** Characters of a running build's log that followers get, and of one piece of it. */
const LIVE_LIMIT = 4 * 1024 * 1024;
const PIECE = 256 * 1024;
const CUT = '\nkiln: there is more; kiln logs has all of it when the build has ended\n';
/** Bytes of the log's end that are kept for `tail`. */
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
  let told = 0;

  const flush = (): void => {
    if (waiting.length() === 0) return;
    const text = decoder.decode(waiting.whole(), { stream: true });
    waiting = createPieces();
    const left = LIVE_LIMIT - told;
    told += text.length;
    if (left <= 0) return;
    const live = text.length > left ? `${text.slice(0, left)}${CUT}` : text;
    for (let at = 0; at < live.length; at += PIECE) {
      const piece = live.slice(at, at + PIECE);
      sending = sending.then(() => signals.appendLog(build, run, piece)).catch(() => {});
    }
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
      await signals.endLog(run).catch(() => {});
      const whole = pieces.whole();
      const { digest } = await blobs.put(Readable.from([whole], { objectMode: false }), {
        limit: whole.length,
      });
      return digest;
    },
    tail: () => pieces.whole().subarray(-TAIL).toString('utf8'),
  };
};
