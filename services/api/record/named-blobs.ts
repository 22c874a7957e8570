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
  ['artifacts', 'digest'],
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
    if (table === 'artifacts') continue;
    const { rows } = await sql<{ text: string }>`
      select ${sql.ref(column)} as text from ${sql.table(table)}
      where ${sql.ref(column)} is not null`.execute(db);
    for (const { text } of rows)
      for (const [digest] of text.matchAll(/sha256:[0-9a-f]{64}/g)) named.add(digest);
  }
  const past = new Set((await pastBuilds(db, endedBefore).execute()).map(({ id }) => id));
  const oldLogs = new Set<string>();
  const artifacts = await db.selectFrom('artifacts').select(['build', 'kind', 'digest']).execute();
  for (const { build, kind, digest } of artifacts)
    (kind === 'log' && past.has(build) ? oldLogs : named).add(digest);
  return { named, oldLogs };
};

/** Takes those logs out of the record. */
export const forgetOldLogs = async (db: Database, endedBefore: number): Promise<void> => {
  await db
    .deleteFrom('artifacts')
    .where('kind', '=', 'log')
    .where('build', 'in', pastBuilds(db, endedBefore))
    .execute();
};

/** The builds whose logs are of no use any more. */
const pastBuilds = (db: Database, endedBefore: number) =>
  db
    .selectFrom('builds')
    .select('id')
    .where('state', 'in', PASSING_STATES)
    .where('finished_at', '<', endedBefore);
