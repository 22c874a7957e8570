import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { SqliteAdapter, SqliteDialect, type Dialect, type SqliteDatabase } from 'kysely';

/** The embedded database: SQLite in a file, which one process writes. */
export const embeddedDialect = (
  file: string,
  { isReadOnly }: { readonly isReadOnly: boolean },
): Dialect => {
  const sqlite = new DatabaseSync(file, { readOnly: isReadOnly });
  sqlite.exec('PRAGMA busy_timeout = 5000');
  if (!isReadOnly)
    sqlite.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON');
  return new EmbeddedDialect({ database: forKysely(sqlite) });
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

const MOST_STATEMENTS = 500;

/** What kysely asks of a SQLite driver, over Node's own. */
const forKysely = (sqlite: DatabaseSync): SqliteDatabase => {
  const prepared = new Map<string, StatementSync>();
  /** A statement that was used before is not read again by SQLite. */
  const prepare = (text: string): StatementSync => {
    const known = prepared.get(text);
    if (known !== undefined) return known;
    const made = sqlite.prepare(text);
    const [oldest] = prepared.keys();
    if (prepared.size >= MOST_STATEMENTS && oldest !== undefined) prepared.delete(oldest);
    prepared.set(text, made);
    return made;
  };
  return {
    close: () => sqlite.close(),
    prepare(text) {
      const statement = prepare(text);
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
