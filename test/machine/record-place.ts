import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import {
  type DatabaseAddress,
  type DatabaseServer,
} from '../../services/storage/database-address.ts';
import { databaseOn } from './postgres.ts';

/**
 * Where the Kilns of tests have their records: in files, or, if the tests run with `KILN_TEST_STORES=servers`, on a PostgreSQL server
 * (`with-kiln.ts` starts it).
 */

/** The variable that has the server's address, with its password. */
export const RECORD_SERVER = 'KILN_TEST_POSTGRES';

/** The record of the Kiln below a directory; on the server it is made where it is not there. */
export const recordIn = async (data: string): Promise<DatabaseAddress> => {
  const given = process.env[RECORD_SERVER];
  if (given === undefined) return { file: join(data, 'kiln.sqlite') };
  const server = JSON.parse(given) as DatabaseServer;
  const name = createHash('sha256').update(resolve(data)).digest('hex').slice(0, 20);
  return databaseOn(server, `kiln_${name}`);
};

/** The settings that have kilnd keep its record there. */
export const recordSettings = async (data: string): Promise<NodeJS.ProcessEnv> => {
  const record = await recordIn(data);
  return 'file' in record ? {} : settingsOf(data, record);
};

/** The settings of a kilnd whose record is in a database. */
export const settingsOf = async (
  data: string,
  { url, password = '' }: DatabaseServer,
): Promise<NodeJS.ProcessEnv> => {
  const file = `${resolve(data)}.password`;
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, password, { mode: 0o600 });
  return { KILN_DATABASE: url, KILN_DATABASE_PASSWORD_FILE: file };
};
