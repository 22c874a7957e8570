import { sql } from 'kysely';
import type { Digest } from '../../core/digest.ts';
import type { Database } from '../../storage/database.ts';
import type { Schema } from '../../storage/schema.ts';
import { isOld } from './old-records.ts';

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
  ['packages', 'digest'],
  ['index_files', 'digest'],
];

/** Columns of JSON that names blobs, among other things: a kernel's `Module.symvers`, a source's files for hosts, what a package is made of. */
export const BLOB_TEXTS: readonly Column[] = [
  ['kernels', 'record'],
  ['sources', 'facts'],
  ['packages', 'plan'],
];

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

/** All blobs that records name: those that a record names which stays, and those that only records name which are from before a time and go. */
export const namedBlobs = async (
  db: Database,
  before: number,
): Promise<{ readonly named: ReadonlySet<string>; readonly forgotten: ReadonlySet<string> }> => {
  const named = new Set<string>();
  const forgotten = new Set<string>();
  for (const column of [...BLOB_COLUMNS, ...BLOB_TEXTS])
    for (const { digest, goes } of await digestsIn(db, column, before))
      (goes ? forgotten : named).add(digest);
  return { named, forgotten };
};

/** The blobs that columns name, which are all there; and the digests in texts, of which some are blobs. */
export const mentionedBlobs = async (
  db: Database,
): Promise<{ readonly blobs: ReadonlySet<Digest>; readonly digests: ReadonlySet<Digest> }> => {
  const find = async (columns: readonly Column[]): Promise<ReadonlySet<Digest>> => {
    const found = new Set<Digest>();
    for (const column of columns)
      for (const { digest } of await digestsIn(db, column, 0)) found.add(digest);
    return found;
  };
  return { blobs: await find(BLOB_COLUMNS), digests: await find(BLOB_TEXTS) };
};

/** The digests that a column holds, and whether the row that each is in is from before a time and goes. */
const digestsIn = async (
  db: Database,
  [table, column]: Column,
  before: number,
): Promise<readonly { readonly digest: Digest; readonly goes: boolean }[]> => {
  const { rows } = await sql<{ text: string; goes: number | boolean }>`
    select ${sql.ref(column)} as text, (${isOld(table, before)}) as goes from ${sql.table(table)}
    where ${sql.ref(column)} is not null`.execute(db);
  return rows.flatMap(({ text, goes }) =>
    [...text.matchAll(/sha256:[0-9a-f]{64}/g)].map(([digest]) => ({
      digest: digest as Digest,
      goes: Boolean(goes),
    })),
  );
};
