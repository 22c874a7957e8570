import type { Readable } from 'node:stream';
import { sql } from 'kysely';
import type { Digest } from '../../core/digest.ts';
import { KilnError } from '../../core/errors.ts';
import type { BlobInfo, Blobs, PutOptions } from '../../storage/blobs.ts';
import { holdBlob, type Database } from '../../storage/database.ts';
import { isNamed } from './named-blobs.ts';
import { mayReadBlob, type Reader } from './readers.ts';
import { underWaySince } from './under-way.ts';

/**
 * Uploads: blobs that were sent and that no record uses yet. A token that has sent one, or may read it and is told that it need not be
 * sent, gets a claim on it: with that it may make a record of the blob, and a refusal to one sender does not remove the blob of another.
 * The blob is removed with its last claim.
 */

/** The dependencies of uploads. */
export interface UploadDeps {
  readonly db: Database;
  readonly blobs: Blobs;
  readonly now: () => number;
}

/** Milliseconds that a claim holds which nobody uses. */
export const CLAIM_TIME = 3_600_000;

/** Stores what a token sends, and gives it a claim on it. Throws what `Blobs.put` throws. */
export const storeUpload = (
  deps: UploadDeps,
  bytes: Readable,
  options: Omit<PutOptions, 'onHashed'>,
  by: Pick<Reader, 'token'>,
): Promise<BlobInfo> =>
  deps.blobs.put(bytes, {
    ...options,
    onHashed: async (blob) => {
      await claim(deps, blob, by);
    },
  });

/** A blob that is here, with a claim on it for a reader that has sent it or may read it; else `null`. */
export const claimUpload = async (
  deps: UploadDeps,
  blob: Digest,
  by: Reader,
): Promise<BlobInfo | null> => {
  if ((await deps.blobs.find(blob)) === null) return null;
  if (!(await hasClaim(deps, blob, by)) && !(await mayReadBlob(deps.db, by, blob))) return null;
  await claim(deps, blob, by);
  // The blob is looked up again: before this claim was made, the last one may have ended.
  return deps.blobs.find(blob);
};

/**
 * Makes a record of an upload and uses up a claim on it. A blob that is in no record afterwards is removed, unless it has other claims.
 * Throws `not-found` unless the reader has sent the blob or may read it.
 */
export const useUpload = async <T>(
  deps: UploadDeps,
  blob: Digest,
  by: Reader,
  use: () => Promise<T>,
): Promise<T> => {
  await mustBeKnown(deps, blob, by);
  // A second claim keeps the blob while the record is made, whichever other claims end.
  await claim(deps, blob, by);
  try {
    return await use();
  } finally {
    await endClaims(deps, blob, by, 2);
  }
};

/** Throws `not-found` unless a blob is here and the reader has sent it or may read it: whoever knows a digest alone does not learn by it. */
export const mustBeKnown = async (deps: UploadDeps, blob: Digest, by: Reader): Promise<void> => {
  const isHere = (await deps.blobs.find(blob)) !== null;
  if (isHere && ((await hasClaim(deps, blob, by)) || (await mayReadBlob(deps.db, by, blob))))
    return;
  throw new KilnError('not-found', `there is no blob ${blob} of yours; PUT it first`);
};

/** Gives up a claim. */
export const dropUpload = (
  deps: UploadDeps,
  blob: Digest,
  by: Pick<Reader, 'token'>,
): Promise<void> => endClaims(deps, blob, by, 1);

/** Ends the claims that nobody used in their time, and removes the blobs that could not go when their last claim ended. */
export const endOldClaims = async (deps: UploadDeps): Promise<void> => {
  const old = await deps.db
    .selectFrom('uploads')
    .select(['blob', 'token', 'claims'])
    .where((where) =>
      where.or([where('claimed_at', '<', deps.now() - CLAIM_TIME), where('claims', '=', 0)]),
    )
    .execute();
  for (const { blob, token, claims } of old) await endClaims(deps, blob, { token }, claims);
};

/** Removes a blob that nobody has a claim on and no record names, if it came before a time; whether it did. */
export const removeUnnamed = (
  deps: UploadDeps,
  blob: Digest,
  arrivedBefore: number,
): Promise<boolean> => removeAfter(deps, blob, '', 0, async () => arrivedBefore);

const hasClaim = async (
  { db }: UploadDeps,
  blob: Digest,
  { token }: Pick<Reader, 'token'>,
): Promise<boolean> => {
  const own = await db
    .selectFrom('uploads')
    .select('blob')
    .where('blob', '=', blob)
    .where('token', '=', token)
    .where('claims', '>', 0)
    .executeTakeFirst();
  return own !== undefined;
};

const claim = (
  { db, now }: UploadDeps,
  blob: Digest,
  { token }: Pick<Reader, 'token'>,
): Promise<void> =>
  holdBlob(db, blob, 'claim', async (on) => {
    await on
      .insertInto('uploads')
      .values({ blob, token, claims: 1, claimed_at: now() })
      .onConflict((conflict) =>
        conflict
          .columns(['blob', 'token'])
          .doUpdateSet({ claims: sql`uploads.claims + 1`, claimed_at: now() }),
      )
      .execute();
  });

/**
 * Ends claims of a token. The blob does not go while anything is under way that was asked for before the blob came: a builder may have
 * stored the same bytes, and not have reported them yet. Then its row stays, with no claims, until it can.
 */
const endClaims = async (
  deps: UploadDeps,
  blob: Digest,
  { token }: Pick<Reader, 'token'>,
  count: number,
): Promise<void> => {
  await removeAfter(deps, blob, token, count, async (db) => (await underWaySince(db)) ?? Infinity);
};

/**
 * Ends so many claims of a token on a blob and removes the blob where nobody has one any more; whether it did. A new claim, with which a
 * record of the blob may be made, is made before all of this, or after it.
 */
const removeAfter = (
  { db, blobs }: UploadDeps,
  blob: Digest,
  token: string,
  count: number,
  arrivedBefore: (db: Database) => Promise<number>,
): Promise<boolean> =>
  holdBlob(db, blob, 'removal', async (transaction) => {
    await transaction
      .updateTable('uploads')
      .set({ claims: sql`case when claims > ${count} then claims - ${count} else 0 end` })
      .where('blob', '=', blob)
      .where('token', '=', token)
      .execute();
    const claimed = await transaction
      .selectFrom('uploads')
      .select('token')
      .where('blob', '=', blob)
      .where('claims', '>', 0)
      .executeTakeFirst();
    // Before it is looked up who names it: what ends in between has named it by then, or is still under way now.
    const before = await arrivedBefore(transaction);
    const isKept = claimed !== undefined || (await isNamed(transaction, blob));
    const isGone = !isKept && (await blobs.removeOld(blob, before));
    if (isKept || isGone || (await blobs.find(blob)) === null)
      await transaction
        .deleteFrom('uploads')
        .where('blob', '=', blob)
        .where('claims', '=', 0)
        .execute();
    return isGone;
  });
