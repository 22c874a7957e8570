import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { KilnError } from '../core/errors.ts';
import { GOING, OLD_RECORDS } from '../core/policy/retention.ts';
import { openDatabase, readDatabase } from '../storage/database.ts';
import { openBlobs } from '../storage/open-blobs.ts';
import type { GcConfig } from './config.ts';
import { collect, summarise, type Collection } from './record/collect.ts';

const recordBelow = (data: string): string => join(data, 'kiln.sqlite');

/** Throws `not-found` where no Kiln keeps its record. */
export const mustHaveRecord = async (data: string): Promise<void> => {
  const record = recordBelow(data);
  if ((await stat(record).catch(() => null)) === null)
    throw new KilnError('not-found', `there is no ${record}; name kilnd’s directory with --data`);
};

/**
 * Collects what the Kiln below a directory need not keep, on which nobody else may be at work; or, `isDry`, only says what would go, which
 * changes nothing and may be done at any time. What went or would, thing by thing and in sum, as lines.
 */
export const collectBelow = async (
  data: string,
  { keepDays, blobs: place, isDry }: GcConfig & { readonly isDry: boolean },
): Promise<string> => {
  const record = recordBelow(data);
  const db = isDry ? await readDatabase(record) : await openDatabase(record);
  try {
    const blobs = await openBlobs(place);
    return report(await collect({ db, blobs, now: Date.now }, { keepDays, isDry }), isDry);
  } finally {
    await db.destroy();
  }
};

const WORDS: Readonly<Record<string, string>> = { ...OLD_RECORDS, ...GOING };

const report = (collected: Collection, isDry: boolean): string => {
  const { records, blobs } = collected;
  const bytes = blobs.reduce((sum, { size }) => sum + size, 0);
  return [
    ...records.map(({ table, key }) => `${table} ${key}: ${OLD_RECORDS[table]}`),
    ...blobs.map(({ digest, size, reason }) => `blob ${digest}, ${size} bytes: ${GOING[reason]}`),
    ...Object.entries(summarise(collected)).map(
      ([what, sum]) => `${sum.count} ${what}, ${sum.bytes} bytes: ${WORDS[what]}`,
    ),
    `${records.length} records and ${blobs.length} blobs, ${bytes} bytes: ${isDry ? 'would be removed in all' : 'removed in all'}`,
  ]
    .map((line) => `${line}\n`)
    .join('');
};
