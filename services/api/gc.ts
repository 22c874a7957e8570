import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { KilnError } from '../core/errors.ts';
import { GOING } from '../core/policy/retention.ts';
import { openBlobDirectory } from '../storage/blobs.ts';
import { openDatabase, readDatabase } from '../storage/database.ts';
import { collectBlobs } from './record/collect-blobs.ts';

const recordBelow = (data: string): string => join(data, 'kiln.sqlite');

/** Throws `not-found` where no Kiln keeps its record. */
export const mustHaveRecord = async (data: string): Promise<void> => {
  const record = recordBelow(data);
  if ((await stat(record).catch(() => null)) === null)
    throw new KilnError('not-found', `there is no ${record}; name kilnd’s directory with --data`);
};

/**
 * Collects the blobs of the Kiln below a directory, which nobody else may be at work on; or, `isDry`, only says what would go, which
 * changes nothing and may be done at any time. What went or would, as lines.
 */
export const collectBelow = async (
  data: string,
  { keepFailedDays, isDry }: { readonly keepFailedDays: number; readonly isDry: boolean },
): Promise<string> => {
  const record = recordBelow(data);
  const db = isDry ? await readDatabase(record) : await openDatabase(record);
  try {
    const blobs = await openBlobDirectory(join(data, 'blobs'));
    const deps = { db, blobs, now: Date.now };
    const collected = await collectBlobs(deps, { keepFailedDays, isDry });
    const reasons = Object.keys(GOING) as (keyof typeof GOING)[];
    const all = reasons.map((reason) => ({ ...collected[reason], words: GOING[reason] }));
    const total = all.reduce(
      (sum, each) => ({ blobs: sum.blobs + each.blobs, bytes: sum.bytes + each.bytes }),
      { blobs: 0, bytes: 0 },
    );
    return [...all, { ...total, words: isDry ? 'would be removed in all' : 'removed in all' }]
      .map(({ blobs: count, bytes, words }) => `${count} blobs, ${bytes} bytes: ${words}\n`)
      .join('');
  } finally {
    await db.destroy();
  }
};
