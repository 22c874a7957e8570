import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { KilnError } from '../core/errors.ts';
import { GOING, OLD_RECORDS } from '../core/policy/retention.ts';
import { openBlobDirectory } from '../storage/blobs.ts';
import {
  readDatabaseAddress,
  recordBelow,
  type DatabaseAddress,
} from '../storage/database-address.ts';
import { openDatabase, readDatabase } from '../storage/database.ts';
import { collect, summarise, type Collection } from './record/collect.ts';

/** Where a Kiln keeps its record. Throws `not-found` where none is below its directory. */
export const findRecord = async (
  data: string,
  environment: NodeJS.ProcessEnv,
): Promise<DatabaseAddress> => {
  const record = readDatabaseAddress(
    recordBelow(data, environment),
    environment['KILN_DATABASE_PASSWORD_FILE'],
  );
  if ('file' in record && (await stat(record.file).catch(() => null)) === null)
    throw new KilnError(
      'not-found',
      `there is no ${record.file}; name kilnd’s directory with --data`,
    );
  return record;
};

/**
 * Collects what a Kiln with its blobs below a directory need not keep; or, `isDry`, only says what would go, which changes nothing and may
 * be done at any time. What went or would, thing by thing and in sum, as lines.
 */
export const collectBelow = async (
  data: string,
  record: DatabaseAddress,
  { keepDays, isDry }: { readonly keepDays: number; readonly isDry: boolean },
): Promise<string> => {
  const db = isDry ? await readDatabase(record) : await openDatabase(record);
  try {
    const blobs = await openBlobDirectory(join(data, 'blobs'));
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
