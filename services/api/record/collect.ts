import {
  arrivedBefore,
  fateOf,
  GOING,
  oldBefore,
  type KeptBlob,
  type Retention,
} from '../../core/policy/retention.ts';
import type { Database } from '../../storage/database.ts';
import { namedBlobs } from './named-blobs.ts';
import { findOldRecords, removeOldRecords, type OldRecord } from './old-records.ts';
import { underWaySince } from './under-way.ts';
import { removeUnnamed, type UploadDeps } from './uploads.ts';

/** How records and blobs are collected. */
export interface Collecting {
  /** How long records are kept that go one day. */
  readonly keepDays: number;
  /** Only says what would go. */
  readonly isDry: boolean;
  /** Ends it early. */
  readonly signal?: AbortSignal;
}

/** A blob that goes, and why. */
export type GoingBlob = KeptBlob & { readonly reason: keyof typeof GOING };

/** What went, or would. */
export interface Collection {
  readonly records: readonly OldRecord[];
  readonly blobs: readonly GoingBlob[];
}

/**
 * Removes the records and blobs that core/policy/retention.ts lets go. Each blob is looked at again as it goes: what was named or claimed
 * meanwhile stays.
 */
export const collect = async (
  deps: UploadDeps,
  { keepDays, isDry, signal }: Collecting,
): Promise<Collection> => {
  const { db, blobs, now } = deps;
  const before = oldBefore(now(), keepDays);
  const retention = await look(db, now(), before);
  const going: GoingBlob[] = [];
  for await (const blob of blobs.list()) {
    const fate = fateOf(blob, retention);
    if ('goes' in fate) going.push({ ...blob, reason: fate.goes });
    if (signal?.aborted === true) break;
  }
  if (isDry) return { records: await findOldRecords(db, before), blobs: going };
  const records = await removeOldRecords(db, before);
  const gone: GoingBlob[] = [];
  for (const blob of going) {
    if (signal?.aborted === true) break;
    if (await removeUnnamed(deps, blob.digest, retention.arrivedBefore)) gone.push(blob);
  }
  return { records, blobs: gone };
};

const look = async (db: Database, now: number, before: number): Promise<Retention> => {
  const claims = await db.selectFrom('uploads').select('blob').where('claims', '>', 0).execute();
  return {
    ...(await namedBlobs(db, before)),
    claimed: new Set(claims.map(({ blob }) => blob)),
    arrivedBefore: arrivedBefore(now, await underWaySince(db)),
  };
};

/** How much went, or would, by what it was and why: how many, and the bytes of blobs. */
export const summarise = ({
  records,
  blobs,
}: Collection): Readonly<Record<string, { readonly count: number; readonly bytes: number }>> => {
  const sums: Record<string, { count: number; bytes: number }> = {};
  const add = (what: string, bytes: number): void => {
    const sum = (sums[what] ??= { count: 0, bytes: 0 });
    sum.count += 1;
    sum.bytes += bytes;
  };
  for (const { table } of records) add(table, 0);
  for (const { reason, size } of blobs) add(reason, size);
  return sums;
};
