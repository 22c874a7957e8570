import {
  HandleEmptyInListsPlugin,
  Kysely,
  PostgresAdapter,
  replaceWithNoncontingentExpression,
  sql,
  type Dialect,
} from 'kysely';
import { Migrator } from 'kysely/migration';
import type { Digest } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import type { DatabaseAddress } from './database-address.ts';
import { embeddedDialect } from './embedded-database.ts';
import { insisting } from './insisting.ts';
import { MIGRATIONS } from './migrations.ts';
import type { Schema } from './schema.ts';

/** The database, with the schema's types. */
export type Database = Kysely<Schema>;

/** Opens (and makes, and brings up to date) the record. One process may write a file, any number those on a server. Throws `unavailable`. */
export const openDatabase = async (address: DatabaseAddress): Promise<Database> => {
  const db = over(await dialectOf(address, { isReadOnly: false }));
  const { error } = await migratorOf(db).migrateToLatest();
  if (error === undefined) return db;
  await db.destroy();
  throw error;
};

/** Opens one that is there only to read it, whoever writes it meanwhile. Throws `conflict` where this Kiln would have to bring it up to date first. */
export const readDatabase = async (address: DatabaseAddress): Promise<Database> => {
  const db = over(await dialectOf(address, { isReadOnly: true }));
  const migrations = await migratorOf(db).getMigrations();
  if (migrations.every(({ executedAt }) => executedAt !== undefined)) return db;
  await db.destroy();
  throw new KilnError(
    'conflict',
    `${nameOf(address)} was made by an older Kiln; start kilnd once, then try again`,
  );
};

/**
 * Does what belongs together, as if nobody else used the database meanwhile: all of it or nothing. It may be done more than once, each time
 * from its beginning: what it changes besides the database it must change anew each time. Throws `unavailable`.
 */
export const transact = <T>(db: Database, work: (on: Database) => Promise<T>): Promise<T> =>
  insisting(() => db.transaction().execute(work));

/** Who claims a blob, as many at once as like; or who removes it, alone. */
export type BlobHold = 'claim' | 'removal';

/**
 * Does what concerns a blob's bytes, which are not in the database: while one removes them nobody claims them, and each sees what the others
 * have done before.
 */
export const holdBlob = <T>(
  db: Database,
  blob: Digest,
  hold: BlobHold,
  work: (on: Database) => Promise<T>,
): Promise<T> => {
  // The embedded database has one transaction at a time.
  if (!isShared(db)) return transact(db, work);
  const lock = sql.raw(`pg_advisory_xact_lock${hold === 'claim' ? '_shared' : ''}`);
  return insisting(() =>
    db
      .transaction()
      // What others did while this one waited for the lock is not seen in any other.
      .setIsolationLevel('read committed')
      .execute(async (on) => {
        // The store may take its time, and nobody may take the lock meanwhile.
        if (hold === 'removal')
          await sql`set local idle_in_transaction_session_timeout = '10min'`.execute(on);
        await sql`select ${lock}(hashtextextended(${blob}, 0))`.execute(on);
        return work(on);
      }),
  );
};

/** The names of the steps that brought the record to where it is, in order. */
export const migrationsOf = async (db: Database): Promise<readonly string[]> => {
  const { rows } = await sql<{ name: string }>`
    select name from kysely_migration order by name`.execute(db);
  return rows.map(({ name }) => name);
};

/** Whether several processes use it at once. */
export const isShared = (db: Database): boolean =>
  db.getExecutor().adapter instanceof PostgresAdapter;

// The driver of servers is loaded where there is one: most Kilns have none.
const dialectOf = async (
  address: DatabaseAddress,
  how: { readonly isReadOnly: boolean },
): Promise<Dialect> =>
  'file' in address
    ? embeddedDialect(address.file, how)
    : (await import('./postgres.ts')).serverDialect(address, how);

const over = (dialect: Dialect): Database =>
  new Kysely<Schema>({
    dialect,
    // `in ()` is no SQL, but where it is SQLite's.
    plugins: [new HandleEmptyInListsPlugin({ strategy: replaceWithNoncontingentExpression })],
  });

const nameOf = (address: DatabaseAddress): string =>
  'file' in address ? address.file : 'the record';

const migratorOf = (db: Database): Migrator =>
  new Migrator({ db, provider: { getMigrations: () => Promise.resolve({ ...MIGRATIONS }) } });
