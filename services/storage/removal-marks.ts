import { randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { KilnError } from '../core/errors.ts';
import type { Bucket, ObjectContent, ObjectInfo } from './bucket.ts';

/**
 * Removing what is old from a bucket, while others store the same bytes anew. S3 neither renames nor, as most servers have it, removes
 * on a condition (and the same bytes have the same ETag, so that none would help). So whoever removes an object says so first:
 *
 * - He stores a mark, an empty object of his own beside it; then looks how old the object is; removes it; and removes his mark once the
 *   server has said that the object is gone.
 * - Whoever stores an object looks for marks afterwards, and then for the object; and stores it again unless there are no marks and the
 *   object is there.
 *
 * That is enough where a server answers with what was stored last, as AWS, Ceph and MinIO do. Say that a removal takes the object that
 * was just stored. It looked at the object before that was stored, or it would have let it be; so its mark was there before the object
 * was. Either the mark is still there when it is looked for, or it was removed, after the object: then that is looked for in vain.
 *
 * A removal may be lost: its process dies, or the server does not answer, and does it later. Then its mark stays, and for VOID_AFTER the
 * same bytes cannot be stored (`unavailable`, after WAIT). By then no removal can come: it is sent at most LIMIT after the mark, once, and
 * servers refuse requests that were signed 15 minutes ago. Marks' ages are told by the server's clock alone.
 */

/** Milliseconds after which a mark means nothing any more. */
const VOID_AFTER = 20 * 60_000;
/** Milliseconds between a mark and its removal, at most. */
const LIMIT = 60_000;
/** Milliseconds for which somebody who stores waits for marks to go, and between two looks. */
const WAIT = 30_000;
const PAUSE = 100;
/** Servers tell times in whole seconds, rounded down. */
const SECOND = 1_000;
const DAY = 24 * 3_600_000;

/** Where an object is, and what the keys of its marks begin with. */
export interface MarkedKey {
  readonly key: string;
  readonly marks: string;
}

const NOTHING: ObjectContent = {
  sha256: 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  size: 0,
  pieces: () => Readable.from([]),
};

/** Stores an object; it is there afterwards, whoever removes an older one meanwhile. Throws `unavailable` where a removal may be lost. */
export const putBesideRemovals = async (
  bucket: Bucket,
  { key, marks }: MarkedKey,
  content: ObjectContent,
): Promise<ObjectInfo> => {
  const deadline = performance.now() + WAIT;
  let isPut = false;
  for (;;) {
    if (!isPut) await bucket.put(key, content);
    // In this order: see above.
    const marked: ObjectInfo[] = [];
    for await (const mark of bucket.list(marks)) marked.push(mark);
    const stored = await bucket.find(key);
    isPut = stored !== null;
    if (stored !== null && !marked.some((mark) => mark.storedAt > stored.storedAt - VOID_AFTER))
      return stored;
    if (performance.now() > deadline)
      throw new KilnError(
        'unavailable',
        'the same bytes are being removed at this moment, or were when the S3 server failed; try again in some minutes',
        { retryAfter: 60 },
      );
    await sleep(PAUSE);
  }
};

/**
 * Removes an object that was stored before a time of this machine's clock (milliseconds since 1970), whatever the server's clock says;
 * false if it was not, if that is not sure by a second or two, or if there is none.
 */
export const removeBesideStores = async (
  bucket: Bucket,
  { key, marks }: MarkedKey,
  storedBefore: number,
): Promise<boolean> => {
  const seen = await bucket.find(key);
  if (seen === null || seen.storedAt >= storedBefore) return false;
  const mark = `${marks}${randomUUID()}`;
  await bucket.put(mark, NOTHING);
  const markedAt = Date.now();
  const isGoing = await isOld(bucket, key, mark, { markedAt, storedBefore });
  const isLate = Math.abs(Date.now() - markedAt) > LIMIT;
  if (isGoing && !isLate) await removeOnce(bucket, key);
  await bucket.remove(mark);
  return isGoing && !isLate;
};

/** Whether an object was stored before a time. The server's clock is set against this one's by the mark that was stored just now. */
const isOld = async (
  bucket: Bucket,
  key: string,
  mark: string,
  { markedAt, storedBefore }: { readonly markedAt: number; readonly storedBefore: number },
): Promise<boolean> => {
  const stored = await bucket.find(key);
  const marked = await bucket.find(mark);
  if (stored === null || marked === null) return false;
  return stored.storedAt + SECOND + (markedAt - marked.storedAt) <= storedBefore;
};

/** Removes an object by one request. Throws where nobody can know whether the server has done it, or will. */
const removeOnce = async (bucket: Bucket, key: string): Promise<void> => {
  try {
    await bucket.removeOnce(key);
  } catch (error) {
    // One request removes once: if the object is gone, that was it.
    if ((await bucket.find(key)) !== null) throw error;
  }
};

/** Removes the marks, below what all of them begin with, that removals left a day ago or longer. */
export const clearMarks = async (bucket: Bucket, marks: string): Promise<void> => {
  const dayAgo = Date.now() - DAY;
  for await (const { key, storedAt } of bucket.list(marks))
    if (storedAt < dayAgo) await bucket.remove(key);
};
