import type { Request } from 'express';
import { KilnError } from '../../core/errors.ts';
import { dayOf } from '../../core/policy/quotas.ts';
import type { Database } from '../../storage/database.ts';
import { bytesSent, noteSent } from '../record/sent.ts';
import type { Caller } from '../record/tokens.ts';

/** The use that tokens make of the service at present, checked against their quotas. */
export interface Usage {
  /**
   * Takes an upload in if the caller may have one more; `take` gets the number of bytes that it may have at most. All bytes received count,
   * even of a refused upload. Throws `too-many`.
   */
  upload<T>(caller: Caller, request: Request, take: (limit: number) => Promise<T>): Promise<T>;
  /** Lets a caller follow a build, if it may follow one more. Throws `too-many`. */
  follow<T>(caller: Caller, follow: () => Promise<T>): Promise<T>;
}

/** The most bytes of a body that come with its headers. */
const FIRST = 64 * 1024;
/** Seconds after which others are likely to have ended. */
const SOON = 5;

export const createUsage = (db: Database, now: () => number, blobLimit: number): Usage => {
  const counts = { uploads: new Map<string, number>(), followers: new Map<string, number>() };

  const holding = async <T>(
    kind: keyof typeof counts,
    what: string,
    { token, quotas }: Caller,
    act: () => Promise<T>,
  ): Promise<T> => {
    const held = counts[kind];
    const count = held.get(token) ?? 0;
    if (quotas !== null && count >= quotas[kind])
      throw new KilnError(
        'too-many',
        `this token has ${count} ${what} under way, the most it may have at once; try again when one has ended`,
        { retryAfter: SOON },
      );
    held.set(token, count + 1);
    try {
      return await act();
    } finally {
      const left = (held.get(token) ?? 1) - 1;
      if (left === 0) held.delete(token);
      else held.set(token, left);
    }
  };

  const room = async ({ token, quotas }: Caller, announced: number): Promise<number> => {
    if (quotas === null) return Number.POSITIVE_INFINITY;
    const { day, left } = dayOf(now());
    const sent = await bytesSent(db, token, day);
    const rest = quotas.dailyBytes - sent;
    if (rest > 0 && announced <= rest) return rest;
    throw new KilnError(
      'too-many',
      `this token has sent ${sent} bytes today and may send ${quotas.dailyBytes} a day; try again after 00:00 UTC`,
      { retryAfter: left },
    );
  };

  return {
    upload: (caller, request, take) =>
      holding('uploads', 'uploads', caller, async () => {
        const announced = Number(request.headers['content-length'] ?? '0');
        if (announced <= blobLimit) await room(caller, announced);
        const limit = Math.min(blobLimit, await room(caller, 0));
        const { socket } = request;
        const before = socket.bytesRead;
        try {
          return await take(limit);
        } finally {
          const came = socket.bytesRead - before;
          // The beginning of a body was read with the headers, before `bytesRead` was first looked at.
          const body = request.complete && announced > 0 ? announced : came + FIRST;
          await noteSent(db, caller.token, dayOf(now()).day, Math.max(came, body));
        }
      }),
    follow: (caller, act) => holding('followers', 'followed builds', caller, act),
  };
};
