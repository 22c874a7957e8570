import type { Readable } from 'node:stream';
import { sql } from 'kysely';
import type { Digest } from '../../core/digest.ts';
import type { BlobInfo, Blobs, PutOptions } from '../../storage/blobs.ts';
import type { Database } from '../../storage/database.ts';
import { isNamed } from './named-blobs.ts';

/**
 * Uploads: blobs that were sent and that no record uses yet. Whoever sends one, or is told that it is here and need not be sent, gets a
 * claim on it, so that a refusal to one sender does not remove the blob of another. The blob is removed with its last claim.
 */

/** The dependencies of uploads. */
export interface UploadDeps {
  readonly db: Database;
  readonly blobs: Blobs;
  readonly now: () => number;
}

/** Milliseconds that a claim holds which nobody uses. */
export const CLAIM_TIME = 3_600_000;

/** Stores what somebody sends, and gives them a claim on it. Throws what `Blobs.put` throws. */
export const storeUpload = (
  deps: UploadDeps,
  bytes: Readable,
  options: Omit<PutOptions, 'onHashed'>,
): Promise<BlobInfo> =>
  deps.blobs.put(bytes, { ...options, onHashed: (blob) => claim(deps, blob) });

/** A blob that is here, with a claim on it for who asks; or `null`. */
export const claimUpload = async (deps: UploadDeps, blob: Digest): Promise<BlobInfo | null> => {
  if ((await deps.blobs.find(blob)) === null) return null;
  await claim(deps, blob);
  // The blob is looked up again: before this claim was made, the last one may have ended.
  return deps.blobs.find(blob);
};

/** Makes a record of an upload and uses up a claim on it. A blob that is in no record afterwards is removed, unless it has other claims. */
export const useUpload = async <T>(
  deps: UploadDeps,
  blob: Digest,
  use: () => Promise<T>,
): Promise<T> => {
  // A second claim keeps the blob while the record is made, whichever other claims end.
  await claim(deps, blob);
  try {
    return await use();
  } finally {
    await endClaims(deps, blob, 2);
  }
};

/** Gives up a claim. */
export const dropUpload = (deps: UploadDeps, blob: Digest): Promise<void> =>
  endClaims(deps, blob, 1);

/** Ends the claims that nobody used in their time. */
export const endOldClaims = async (deps: UploadDeps): Promise<void> => {
  const old = await deps.db
    .selectFrom('uploads')
    .select(['blob', 'claims'])
    .where('claimed_at', '<', deps.now() - CLAIM_TIME)
    .execute();
  for (const { blob, claims } of old) await endClaims(deps, blob, claims);
};

/**
 * Removes a blob that nobody has a claim on and no record names, if it came before a time; whether it did. In a transaction that
 * holds the database from its first statement on: a claim, or a record of it, is made before all of this, or after it.
 */
export const removeUnnamed = (
  { db, blobs }: UploadDeps,
  blob: Digest,
  arrivedBefore: number,
): Promise<boolean> =>
  db.transaction().execute(async (transaction) => {
    const claimed = await transaction
      .updateTable('uploads')
      .set({ claims: sql`claims` })
      .where('blob', '=', blob)
      .returning('claims')
      .executeTakeFirst();
    if (claimed !== undefined || (await isNamed(transaction, blob))) return false;
    return blobs.removeOld(blob, arrivedBefore);
  });

const claim = async ({ db, now }: UploadDeps, blob: Digest): Promise<void> => {
  await db
    .insertInto('uploads')
    .values({ blob, claims: 1, claimed_at: now() })
    .onConflict((conflict) =>
      conflict.column('blob').doUpdateSet({ claims: sql`uploads.claims + 1`, claimed_at: now() }),
    )
    .execute();
};

/** Ends claims in one transaction, so that a new claim is made either before all of it or after. */
const endClaims = ({ db, blobs }: UploadDeps, blob: Digest, count: number): Promise<void> =>
  db.transaction().execute(async (transaction) => {
    const left = await transaction
      .updateTable('uploads')
      .set({ claims: sql`claims - ${count}` })
      .where('blob', '=', blob)
      .returning('claims')
      .executeTakeFirst();
    if (left === undefined || left.claims > 0) return;
    await transaction.deleteFrom('uploads').where('blob', '=', blob).execute();
    if (!(await isNamed(transaction, blob))) await blobs.remove(blob);
  });
