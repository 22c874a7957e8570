import { mkdir, rename, stat } from 'node:fs/promises';
import { KilnError } from '../core/errors.ts';
import {
  readDatabaseAddress,
  recordBelow,
  type DatabaseAddress,
} from '../storage/database-address.ts';
import { openDatabase, readDatabase } from '../storage/database.ts';
import { openBlobs } from '../storage/open-blobs.ts';
import { mustHaveAll, moveTo, type Copied, type Kept } from './backup.ts';
import { blobsBelow } from './config.ts';

/** What a Kiln keeps below a directory, and on the servers that its environment names: for commands that work on it beside a kilnd. */

/** How it is opened: to read it, to change it, or to begin it. */
export type Opening = 'reads' | 'changes' | 'begins';

const addressOf = (data: string, environment: NodeJS.ProcessEnv): DatabaseAddress =>
  readDatabaseAddress(recordBelow(data, environment), environment['KILN_DATABASE_PASSWORD_FILE']);

const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

/** Throws `not-found` where no Kiln keeps its record. */
export const mustHaveRecord = async (
  data: string,
  environment: NodeJS.ProcessEnv,
): Promise<void> => {
  const address = addressOf(data, environment);
  if ('file' in address && !(await isThere(address.file)))
    throw new KilnError(
      'not-found',
      `there is no ${address.file}; name kilnd’s directory with --data`,
    );
};

/** Works on what a Kiln keeps. Throws `not-found` where there is none, unless it `begins`. */
export const withKept = async <T>(
  data: string,
  environment: NodeJS.ProcessEnv,
  opening: Opening,
  work: (kept: Kept) => Promise<T>,
): Promise<T> => {
  if (opening !== 'begins') await mustHaveRecord(data, environment);
  const address = addressOf(data, environment);
  const db = await (opening === 'reads' ? readDatabase(address) : openDatabase(address));
  try {
    return await work({ db, blobs: await openBlobs(blobsBelow(data, environment)) });
  } finally {
    await db.destroy();
  }
};

/** Moves what a Kiln that does not run keeps below a directory to the servers that its environment names. Throws `bad-request`, or `conflict`. */
export const moveToServers = async (
  data: string,
  environment: NodeJS.ProcessEnv,
  say: (words: string) => void,
): Promise<Copied> => {
  if ('file' in addressOf(data, environment))
    throw new KilnError(
      'bad-request',
      'KILN_DATABASE names no server; set it to postgres://USER@HOST:PORT/NAME, an empty database',
    );
  const copied = await withKept(data, {}, 'changes', (from) =>
    withKept(data, environment, 'begins', (to) => moveTo(from, to, data, say)),
  );
  // A kilnd that is started without that setting must not go on from here.
  const file = recordBelow(data, {});
  await rename(file, `${file}.moved`);
  await withKept(data, environment, 'reads', mustHaveAll);
  return copied;
};

/** Makes a Kiln's directory. */
export const makeData = async (data: string): Promise<void> => {
  await mkdir(data, { recursive: true, mode: 0o700 });
};
