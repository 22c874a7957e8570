import { sql } from 'kysely';
import type { Digest } from '../../core/digest.ts';
import { PASSING_STATES } from '../../core/policy/retention.ts';
import type { Database } from '../../storage/database.ts';
import type { Schema } from '../../storage/schema.ts';

/** Which blobs the record names: the one place that says where it does. */

type Column = {
  [Table in keyof Schema]: readonly [table: Table, column: keyof Schema[Table] & string];
}[keyof Schema];

/** Columns that hold a blob's digest. */
export const BLOB_COLUMNS: readonly Column[] = [
  ['sources', 'blob'],
  ['kernels', 'blob'],
  ['toolchains', 'digest'],
  ['toolchain_packages', 'blob'],
  ['builds', 'log'],
  ['builds', 'exports'],
  ['builds', 'attestation'],
  ['modules', 'unsigned'],
  ['modules', 'signed'],
];

/** Columns of JSON that names blobs, among other things: a kernel's `Module.symvers`. */
export const BLOB_TEXTS: readonly Column[] = [['kernels', 'record']];

/** Whether any record names a blob. */
export const isNamed = async (db: Database, blob: Digest): Promise<boolean> => {
  for (const [table, column] of BLOB_COLUMNS) {
    const { rows } = await sql`
      select 1 from ${sql.table(table)} where ${sql.ref(column)} = ${blob} limit 1`.execute(db);
    if (rows.length > 0) return true;
  }
  for (const [table, column] of BLOB_TEXTS) {
    const { rows } = await sql`
      select 1 from ${sql.table(table)} where ${sql.ref(column)} like ${`%${blob}%`} limit 1`.execute(
      db,
    );
    if (rows.length > 0) return true;
  }
  return false;
};

/** All blobs that records name; those apart that are named as nothing but logs of builds that did not succeed and ended before a time. */
export const namedBlobs = async (
  db: Database,
  endedBefore: number,
): Promise<{ readonly named: ReadonlySet<string>; readonly oldLogs: ReadonlySet<string> }> => {
  const named = new Set<string>();
  for (const [table, column] of [...BLOB_COLUMNS, ...BLOB_TEXTS]) {
    if (table === 'builds' && column === 'log') continue;
    const { rows } = await sql<{ text: string }>`
      select ${sql.ref(column)} as text from ${sql.table(table)}
      where ${sql.ref(column)} is not null`.execute(db);
    for (const { text } of rows)
      for (const [digest] of text.matchAll(/sha256:[0-9a-f]{64}/g)) named.add(digest);
  }
  const logs = await db.selectFrom('builds').select(['id', 'log']).execute();
  const old = await oldLogs(db, endedBefore).execute();
  const passing = new Set(old.map(({ id }) => id));
  for (const { id, log } of logs) if (log !== null && !passing.has(id)) named.add(log);
  return { named, oldLogs: new Set(old.flatMap(({ log }) => log ?? [])) };
};

/** Takes those logs out of the record. */
export const forgetOldLogs = async (db: Database, endedBefore: number): Promise<void> => {
  await db
    .updateTable('builds')
    .set({ log: null })
    .where('id', 'in', oldLogs(db, endedBefore).clearSelect().select('id'))
    .execute();
};

const oldLogs = (db: Database, endedBefore: number) =>
  db
    .selectFrom('builds')
    .select(['id', 'log'])
    .where('log', 'is not', null)
    .where('state', 'in', PASSING_STATES)
    .where('finished_at', '<', endedBefore);
