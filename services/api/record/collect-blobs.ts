import {
  arrivedBefore,
  endedBefore,
  fateOf,
  GOING,
  type KeptBlob,
  type Retention,
} from '../../core/policy/retention.ts';
import type { Database } from '../../storage/database.ts';
import { forgetOldLogs, namedBlobs } from './named-blobs.ts';
import { underWaySince } from './under-way.ts';
import { removeUnnamed, type UploadDeps } from './uploads.ts';

/** How blobs are collected. */
export interface Collecting {
  /** How long logs of builds that did not succeed are kept. */
  readonly keepFailedDays: number;
  /** Only says what would go. */
  readonly isDry: boolean;
  /** Ends it early. */
  readonly signal?: AbortSignal;
}

/** What went, or would, by reason: how many blobs, and their bytes. */
export type Collection = Readonly<
  Record<keyof typeof GOING, { readonly blobs: number; readonly bytes: number }>
>;

/** Removes the blobs that core/policy/retention.ts lets go. Each is looked at again as it goes: what was named or claimed meanwhile stays. */
export const collectBlobs = async (
  deps: UploadDeps,
  { keepFailedDays, isDry, signal }: Collecting,
): Promise<Collection> => {
  const { db, blobs, now } = deps;
  const before = endedBefore(now(), keepFailedDays);
  const retention = await look(db, now(), before);
  const going: { blob: KeptBlob; reason: keyof typeof GOING }[] = [];
  for await (const blob of blobs.list()) {
    const fate = fateOf(blob, retention);
    if ('goes' in fate) going.push({ blob, reason: fate.goes });
    if (signal?.aborted === true) break;
  }
  if (!isDry) await forgetOldLogs(db, before);
  const sums = { 'old-log': { blobs: 0, bytes: 0 }, unnamed: { blobs: 0, bytes: 0 } };
  for (const { blob, reason } of going) {
    if (signal?.aborted === true) break;
    if (!isDry && !(await removeUnnamed(deps, blob.digest, retention.arrivedBefore))) continue;
    sums[reason].blobs += 1;
    sums[reason].bytes += blob.size;
  }
  return sums;
};

const look = async (db: Database, now: number, before: number): Promise<Retention> => {
  const claims = await db.selectFrom('uploads').select('blob').where('claims', '>', 0).execute();
  return {
    ...(await namedBlobs(db, before)),
    claimed: new Set(claims.map(({ blob }) => blob)),
    arrivedBefore: arrivedBefore(now, await underWaySince(db)),
  };
};
