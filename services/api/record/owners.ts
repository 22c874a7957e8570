import { KilnError } from '../../core/errors.ts';
import {
  archiveHolder,
  archiveOf,
  whyNotPublish,
  type NameHolder,
} from '../../core/policy/ownership.ts';
import type { Database } from '../../storage/database.ts';
import type { Schema } from '../../storage/schema.ts';
import { fromJson } from '../../storage/json-text.ts';

/** Owners of sources' names. */

/**
 * Lets a token or an archive, named by its id, publish under a name; a name without an owner becomes its own. Throws `forbidden`, saying
 * whose the name is.
 */
export const takeName = async (
  db: Database,
  now: number,
  name: string,
  id: string,
): Promise<void> => {
  const rows = await db.selectFrom('tokens').selectAll().execute();
  const isValid = (row: Schema['tokens']): boolean =>
    row.revoked_at === null && row.expires_at > now;
  const holders = rows.map(holderOf);
  const find = (wanted: string): NameHolder | null => {
    const archive = archiveOf(wanted);
    if (archive !== null) return archiveHolder(archive);
    return holders.find((each) => each.id === wanted) ?? null;
  };
  const by = find(id);
  if (by === null) throw new Error(`there is no token ${id}; kiln token list shows them`);
  const row = await db
    .selectFrom('source_owners')
    .select('owner')
    .where('name', '=', name)
    .executeTakeFirst();
  const owner = row === undefined ? null : find(row.owner);
  const others = holders.filter((each, index) => {
    const held = rows[index];
    return each.id !== id && held !== undefined && isValid(held);
  });
  const refusal = whyNotPublish(name, by, owner, others);
  if (refusal !== null) throw new KilnError('forbidden', refusal);
  await db
    .insertInto('source_owners')
    .values({ name, owner: id })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
};

/** Gives a name to a token, or to an archive that is followed, by its id. Throws `not-found`. */
export const giveName = async (db: Database, name: string, id: string): Promise<NameHolder> => {
  const holder = await mustBeHolder(db, id);
  await db
    .insertInto('source_owners')
    .values({ name, owner: id })
    .onConflict((conflict) => conflict.column('name').doUpdateSet({ owner: id }))
    .execute();
  return holder;
};

const mustBeHolder = async (db: Database, id: string): Promise<NameHolder> => {
  const archive = archiveOf(id);
  if (archive === null) {
    const row = await db.selectFrom('tokens').selectAll().where('id', '=', id).executeTakeFirst();
    if (row !== undefined) return holderOf(row);
    throw new KilnError('not-found', `there is no token ${id}; kiln token list shows them`);
  }
  const row = await db
    .selectFrom('archives')
    .select('name')
    .where('name', '=', archive)
    .executeTakeFirst();
  if (row !== undefined) return archiveHolder(archive);
  throw new KilnError(
    'not-found',
    `no archive ${archive} is followed; kiln archive list shows those that are`,
  );
};

const holderOf = ({ id, name, role, names }: Schema['tokens']): NameHolder => ({
  id,
  name,
  role,
  names: fromJson(names),
});
