import { KilnError } from '../../core/errors.ts';
import { whyNotPublish, type NameHolder } from '../../core/policy/ownership.ts';
import type { Database } from '../../storage/database.ts';
import type { Schema } from '../../storage/schema.ts';
import { fromJson } from '../../storage/json-text.ts';

/** Owners of sources' names. */

/** Lets a token publish under a name; a name without an owner becomes the token's. Throws `forbidden`, saying whose the name is. */
export const takeName = async (
  db: Database,
  now: number,
  name: string,
  token: string,
): Promise<void> => {
  const rows = await db.selectFrom('tokens').selectAll().execute();
  const isValid = (row: Schema['tokens']): boolean =>
    row.revoked_at === null && row.expires_at > now;
  const holders = rows.map(holderOf);
  const by = holders.find(({ id }) => id === token);
  if (by === undefined) throw new Error(`there is no token ${token}; kiln token list shows them`);
  const row = await db
    .selectFrom('source_owners')
    .select('token')
    .where('name', '=', name)
    .executeTakeFirst();
  const owner = holders.find(({ id }) => id === row?.token) ?? null;
  const others = holders.filter((each, index) => {
    const held = rows[index];
    return each.id !== token && held !== undefined && isValid(held);
  });
  const refusal = whyNotPublish(name, by, owner, others);
  if (refusal !== null) throw new KilnError('forbidden', refusal);
  await db
    .insertInto('source_owners')
    .values({ name, token })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
};

/** Gives a name to a token. Throws `not-found`. */
export const giveName = async (db: Database, name: string, token: string): Promise<NameHolder> => {
  const row = await db.selectFrom('tokens').selectAll().where('id', '=', token).executeTakeFirst();
  if (row === undefined)
    throw new KilnError('not-found', `there is no token ${token}; kiln token list shows them`);
  await db
    .insertInto('source_owners')
    .values({ name, token })
    .onConflict((conflict) => conflict.column('name').doUpdateSet({ token }))
    .execute();
  return holderOf(row);
};

const holderOf = ({ id, name, role, names }: Schema['tokens']): NameHolder => ({
  id,
  name,
  role,
  names: fromJson(names),
});
