import type { Readable } from 'node:stream';
import type { Digest } from '../core/digest.ts';
import type { BlobInfo, Blobs, PutOptions } from '../storage/blobs.ts';
import type { Database } from '../storage/database.ts';
import { findArtifact } from './records.ts';

/**
 * Bytes that somebody sent stay for an hour, in which a record is made of them or not. Whoever else is told meanwhile that they are
 * here can rely on it: nothing that one sender does takes another's bytes away.
 */

/** What knowing of uploads needs. */
export interface UploadDeps {
  readonly db: Database;
  readonly blobs: Blobs;
  readonly now: () => number;
}

/** How long bytes stay that no record names, in milliseconds. */
export const UPLOAD_STAY = 3_600_000;

/** Notes that a blob is being sent, or named by somebody: from now on it stays for `UPLOAD_STAY`. */
export const noteUpload = async (
  { db, now }: Pick<UploadDeps, 'db' | 'now'>,
  blob: Digest,
): Promise<void> => {
  await db
    .insertInto('uploads')
    .values({ blob, at: now() })
    .onConflict((conflict) => conflict.column('blob').doUpdateSet({ at: now() }))
    .execute();
};

/** Stores what somebody sends. Throws what `Blobs.put` throws. */
export const storeUpload = (
  deps: UploadDeps,
  bytes: Readable,
  options: Omit<PutOptions, 'onHashed'>,
): Promise<BlobInfo> =>
  deps.blobs.put(bytes, { ...options, onHashed: (digest) => noteUpload(deps, digest) });

/** A blob that is here, and stays; or `null`. */
export const findUpload = async (deps: UploadDeps, blob: Digest): Promise<BlobInfo | null> => {
  if ((await deps.blobs.find(blob)) === null) return null;
  await noteUpload(deps, blob);
  // Its time may have been over just now.
  return deps.blobs.find(blob);
};

/** Removes the uploads whose time is over and of which no record was made. */
export const removeOldUploads = async ({ db, blobs, now }: UploadDeps): Promise<void> => {
  const old = await db
    .selectFrom('uploads')
    .selectAll()
    .where('at', '<', now() - UPLOAD_STAY)
    .execute();
  for (const { blob, at } of old) {
    // A transaction holds the database: a note of this blob is made before all of this, or after it.
    await db.transaction().execute(async (transaction) => {
      const { numDeletedRows } = await transaction
        .deleteFrom('uploads')
        .where('blob', '=', blob)
        .where('at', '=', at)
        .executeTakeFirst();
      if (numDeletedRows > 0n && !(await isRecorded(transaction, blob)))
        await blobs.remove(blob as Digest);
    });
  }
};

const isRecorded = async (db: Database, blob: string): Promise<boolean> => {
  const found = [
    await db.selectFrom('sources').select('digest').where('blob', '=', blob).executeTakeFirst(),
    await db.selectFrom('kernels').select('digest').where('blob', '=', blob).executeTakeFirst(),
    await db
      .selectFrom('toolchains')
      .select('digest')
      .where('digest', '=', blob)
      .executeTakeFirst(),
    await findArtifact(db, blob),
  ];
  return found.some((row) => row !== undefined);
};
