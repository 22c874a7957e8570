import { DatabaseSync, type SQLInputValue } from 'node:sqlite';
import { Kysely, SqliteAdapter, SqliteDialect, type SqliteDatabase } from 'kysely';
import { Migrator } from 'kysely/migration';
import { KilnError } from '../core/errors.ts';
import { MIGRATIONS } from './migrations.ts';
import type { Schema } from './schema.ts';

/** The database, with the schema's types. */
export type Database = Kysely<Schema>;

/** Opens (and makes, and brings up to date) an embedded database in a file. One process may write it. */
export const openDatabase = async (file: string): Promise<Database> => {
  const sqlite = new DatabaseSync(file);
  sqlite.exec(
    'PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000',
  );
  const db = over(sqlite);
  const { error } = await migratorOf(db).migrateToLatest();
  if (error === undefined) return db;
  await db.destroy();
  throw error;
};

/** Opens one that is there only to read it, whoever writes it meanwhile. Throws `conflict` where this Kiln would have to bring it up to date first. */
export const readDatabase = async (file: string): Promise<Database> => {
  const sqlite = new DatabaseSync(file, { readOnly: true });
  sqlite.exec('PRAGMA busy_timeout = 5000');
  const db = over(sqlite);
  const migrations = await migratorOf(db).getMigrations();
  if (migrations.every(({ executedAt }) => executedAt !== undefined)) return db;
  await db.destroy();
  throw new KilnError(
    'conflict',
    `${file} was made by an older Kiln; start kilnd once, then try again`,
  );
};

/** SQLite, whose migrations are one transaction: a start that is killed in one leaves the record as it was. */
class EmbeddedDialect extends SqliteDialect {
  override createAdapter(): SqliteAdapter {
    return new EmbeddedAdapter();
  }
}

class EmbeddedAdapter extends SqliteAdapter {
  override get supportsTransactionalDdl(): boolean {
    return true;
  }
}

const over = (sqlite: DatabaseSync): Database =>
  new Kysely<Schema>({ dialect: new EmbeddedDialect({ database: forKysely(sqlite) }) });

const migratorOf = (db: Database): Migrator =>
  new Migrator({ db, provider: { getMigrations: () => Promise.resolve({ ...MIGRATIONS }) } });

/** What kysely asks of a SQLite driver, over Node's own. */
const forKysely = (sqlite: DatabaseSync): SqliteDatabase => {
  return {
    close: () => sqlite.close(),
    prepare(text) {
      const statement = sqlite.prepare(text);
      const values = (parameters: readonly unknown[]): SQLInputValue[] =>
        [...parameters] as SQLInputValue[];
      return {
        reader: statement.columns().length > 0,
        all: (parameters) => statement.all(...values(parameters)),
        run: (parameters) => statement.run(...values(parameters)),
        iterate: (parameters) => statement.iterate(...values(parameters)),
      };
    },
  };
};
