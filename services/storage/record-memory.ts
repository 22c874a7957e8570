import { sql } from 'kysely';
import { digestOf } from '../core/digest.ts';
import { isShared, type Database } from './database.ts';

/** What was found in the record, for as long as nothing in it has changed, whoever changes it. */
export interface RecordMemory {
  /** What was found under a key, or is found now. Nothing is kept of a `null`, nor beyond the time `until` (milliseconds since 1970). */
  recall<T>(key: string, find: () => Promise<Found<T> | null>): Promise<T | null>;
}

/** Something that was found. */
export interface Found<T> {
  readonly value: T;
  readonly until: number;
}

/** Things that are kept at once; the oldest goes first. */
const MOST = 2000;

export const createRecordMemory = (db: Database, now: () => number): RecordMemory => {
  const known = new Map<string, Found<unknown>>();
  let version = '';
  return {
    async recall<T>(what: string, find: () => Promise<Found<T> | null>): Promise<T | null> {
      // A request may be long, and many long ones may mean the same.
      const key = digestOf(what);
      const before = await versionOf(db);
      if (before !== version) known.clear();
      version = before;
      const there = known.get(key) as Found<T> | undefined;
      if (there !== undefined && there.until > now()) return there.value;
      const found = await find();
      if (found === null) return null;
      // What changed while it was looked for may be in it by half.
      if ((await versionOf(db)) === before && version === before) {
        const [oldest] = known.keys();
        if (known.size >= MOST && oldest !== undefined) known.delete(oldest);
        known.set(key, found);
      }
      return found.value;
    },
  };
};

/**
 * Another text after every change that one may see: SQLite counts those of this connection, and tells of those of others; PostgreSQL says
 * which transactions that change something are seen.
 */
const versionOf = async (db: Database): Promise<string> => {
  const text = isShared(db)
    ? sql`pg_current_snapshot()::text`
    : sql`total_changes() || ' ' || (select data_version from pragma_data_version)`;
  const { rows } = await sql<{ version: string }>`select ${text} as version`.execute(db);
  return rows[0]?.version ?? '';
};
