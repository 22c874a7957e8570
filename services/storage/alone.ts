import { sql } from 'kysely';
import { isShared, type Database } from './database.ts';

/**
 * What one process at a time does, of all that use the database. A lock that PostgreSQL keeps for as long as the connection is there: that of
 * a process that died is free. The embedded database has one process, which sees to it itself.
 */

/** Does something unless somebody is at it; `null` then. */
export const unlessBusy = async <T>(
  db: Database,
  what: string,
  work: () => Promise<T>,
): Promise<T | null> => {
  if (!isShared(db)) return work();
  return db.connection().execute(async (on) => {
    const { rows } = await sql<{ held: boolean }>`
      select pg_try_advisory_lock(${keyOf(what)}) as held`.execute(on);
    if (rows[0]?.held !== true) return null;
    return releasing(on, what, work);
  });
};

/** Does something when nobody else is at it. */
export const inTurn = async <T>(db: Database, what: string, work: () => Promise<T>): Promise<T> => {
  if (!isShared(db)) return work();
  return db.connection().execute(async (on) => {
    await sql`select pg_advisory_lock(${keyOf(what)})`.execute(on);
    return releasing(on, what, work);
  });
};

const releasing = async <T>(on: Database, what: string, work: () => Promise<T>): Promise<T> => {
  try {
    return await work();
  } finally {
    // Where the connection is gone, so is the lock.
    await sql`select pg_advisory_unlock(${keyOf(what)})`.execute(on).catch(() => {});
  }
};

/** Apart from the locks of blobs. */
const keyOf = (what: string) => sql`hashtextextended(${what}, 1)`;
