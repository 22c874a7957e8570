import { GOING, OLD_RECORDS } from '../core/policy/retention.ts';
import type { Kept } from './backup.ts';
import { collect, summarise, type Collection } from './record/collect.ts';

/**
 * Collects what a Kiln need not keep; or, `isDry`, only says what would go, which changes nothing and may be done at any time. What went or
 * would, thing by thing and in sum, as lines.
 */
export const collectKept = async (
  { db, blobs }: Kept,
  how: { readonly keepDays: number; readonly isDry: boolean },
): Promise<string> => report(await collect({ db, blobs, now: Date.now }, how), how.isDry);

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
