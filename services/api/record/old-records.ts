import { sql, type RawBuilder, type SqlBool } from 'kysely';
import { OLD_RECORDS, type OldTable } from '../../core/policy/retention.ts';
import { transact, type Database } from '../../storage/database.ts';
import type { Schema } from '../../storage/schema.ts';

/** The records that core/policy/retention.ts lets go: which rows those are, and how they go. */

/** A record that goes: its table, and its key. */
export interface OldRecord {
  readonly table: OldTable;
  readonly key: string;
}

/** Columns that name a token. */
export const TOKEN_COLUMNS: readonly (readonly [table: keyof Schema, column: string])[] = [
  ...(['sources', 'source_names', 'kernels', 'toolchains', 'builds'] as const),
  ...(['archives', 'tokens', 'withdrawals', 'packages', 'publications'] as const),
]
  .map((table): readonly [keyof Schema, string] => [table, 'made_by'])
  .concat(
    (['askers', 'pushers', 'requests', 'uploads', 'sent'] as const).map((table) => [
      table,
      'token',
    ]),
    [['source_owners', 'owner']],
  );

type Condition = (before: number) => RawBuilder<SqlBool>;

const ofBuildInVain: Condition = (before) =>
  sql`build in (select id from builds where state in ('failed', 'cancelled') and finished_at < ${before})`;

const endedTokens = (before: number): RawBuilder<string> =>
  sql`(select id from tokens where revoked_at < ${before} or expires_at < ${before})`;

const oldTree =
  (kind: 'source' | 'kernel', others: RawBuilder<SqlBool>): Condition =>
  (before) =>
    sql`trust = 'client' and created_at < ${before} and digest not in (select tree from pushers)
      and digest not in (select ${sql.ref(kind)} from builds) and ${others}`;

/** Whether a row of the table goes, as it stands before anything has gone; what it was the last to name goes the next time. */
const CONDITIONS: Readonly<Record<OldTable, Condition>> = {
  artifacts: ofBuildInVain,
  modules: ofBuildInVain,
  // The row stays: a version is given once. What all packages need has no count of those, and stays as it is.
  packages: (before) =>
    sql`state = 'made' and kind <> 'common' and finished_at < ${before} and id not in (select package from channel_packages)`,
  rebuilds: (before) => sql`state in ('same', 'failed') and finished_at < ${before}`,
  misses: (before) => sql`last_at < ${before}`,
  askers: (before) =>
    sql`token in ${endedTokens(before)} and build in (select id from builds where state not in ('queued', 'building', 'signing'))`,
  pushers: (before) => sql`token in ${endedTokens(before)}`,
  builds: (before) =>
    sql`state in ('failed', 'cancelled', 'excluded') and finished_at < ${before} and id not in (select build from askers)
      and id not in (select needs from dependencies)`,
  sources: oldTree('source', sql`digest not in (select source from source_names)`),
  kernels: oldTree('kernel', sql`digest not in (select kernel from archive_kernels)`),
  toolchains: (before) =>
    sql`state = 'refused' and created_at < ${before} and digest not in (select toolchain from builds)`,
  tokens: (before) =>
    sql`id in ${endedTokens(before)} and ${sql.join(
      TOKEN_COLUMNS.map(
        ([table, column]) =>
          sql`not exists (select 1 from ${sql.table(table)} as naming where naming.${sql.ref(column)} = tokens.id)`,
      ),
      sql` and `,
    )}`,
};

/** The columns that tell a table's rows apart. */
const KEYS: Readonly<Record<OldTable, readonly string[]>> = {
  artifacts: ['build', 'kind', 'name', 'key'],
  modules: ['build', 'name'],
  packages: ['id'],
  rebuilds: ['id'],
  misses: ['reason', 'source', 'release'],
  askers: ['build', 'token'],
  pushers: ['tree', 'token'],
  builds: ['id'],
  sources: ['digest'],
  kernels: ['digest'],
  toolchains: ['digest'],
  tokens: ['id'],
};

/** All rows hang on others that come later in this list. */
const TABLES = Object.keys(OLD_RECORDS) as readonly OldTable[];

/** Whether a row of a table goes, as an SQL expression; `false` in a table that no row goes from. */
export const isOld = (table: keyof Schema, before: number): RawBuilder<SqlBool> =>
  Object.hasOwn(CONDITIONS, table) ? CONDITIONS[table as OldTable](before) : sql`1 = 0`;

/** The records that are from before a time and go. */
export const findOldRecords = async (
  db: Database,
  before: number,
): Promise<readonly OldRecord[]> => {
  const found: OldRecord[] = [];
  for (const table of TABLES) {
    const key = sql.join(
      KEYS[table].map((column) => sql.ref(column)),
      sql` || ' ' || `,
    );
    const { rows } = await sql<{ key: string }>`
      select ${key} as key from ${sql.table(table)} where ${isOld(table, before)}`.execute(db);
    found.push(...rows.map((row) => ({ table, key: row.key.trim() })));
  }
  return found;
};

/** Removes them, and gives them back. Those that others hang on go first: so what goes is what was found, whatever goes with it. */
export const removeOldRecords = (db: Database, before: number): Promise<readonly OldRecord[]> =>
  transact(db, async (transaction) => {
    const found = await findOldRecords(transaction, before);
    await sql`
      update packages set state = 'gone', gone_digest = digest, digest = null where ${isOld('packages', before)}`.execute(
      transaction,
    );
    for (const table of TABLES.toReversed()) {
      if (table === 'packages') continue;
      if (table === 'builds')
        for (const part of [
          'artifacts',
          'modules',
          'signatures',
          'rebuilds',
          'dependencies',
        ] as const)
          await sql`
            delete from ${sql.table(part)} where build in (select id from builds where ${isOld(table, before)})`.execute(
            transaction,
          );
      await sql`delete from ${sql.table(table)} where ${isOld(table, before)}`.execute(transaction);
    }
    return found;
  });
