import { sql } from 'kysely';
import type { Database } from '../../storage/database.ts';

/** How many bytes a token has sent on a day. */
export const bytesSent = async (db: Database, token: string, day: number): Promise<number> => {
  const row = await db
    .selectFrom('sent')
    .select('bytes')
    .where('token', '=', token)
    .where('day', '=', day)
    .executeTakeFirst();
  return row?.bytes ?? 0;
};

/** Adds to what a token has sent on a day. Earlier days are forgotten. */
export const noteSent = async (
  db: Database,
  token: string,
  day: number,
  bytes: number,
): Promise<void> => {
  await db.deleteFrom('sent').where('day', '<', day).execute();
  await db
    .insertInto('sent')
    .values({ token, day, bytes })
    .onConflict((conflict) =>
      conflict.columns(['token', 'day']).doUpdateSet({ bytes: sql`sent.bytes + ${bytes}` }),
    )
    .execute();
};
