import type { Withdrawable } from '../../core/withdrawal.ts';
import type { Maker } from '../../core/protocol.ts';
import type { Database } from '../../storage/database.ts';

/** Who made records: tokens by their names. */
export type Makers = ReadonlyMap<string, string>;

/** The names of all tokens, also of those that have ended. */
export const listMakers = async (db: Database): Promise<Makers> =>
  new Map(
    (await db.selectFrom('tokens').select(['id', 'name']).execute()).map(({ id, name }) => [
      id,
      name,
    ]),
  );

/** Who made a record: a token, or a part of the service, which has no other name than that. */
export const makerIn = (makers: Makers, id: string): Maker => ({ id, name: makers.get(id) ?? id });

/** Who made one record. */
export const findMaker = async (db: Database, id: string): Promise<Maker> => {
  const row = await db.selectFrom('tokens').select('name').where('id', '=', id).executeTakeFirst();
  return { id, name: row?.name ?? id };
};

/** What a token has brought that builds are made of, and builds that it asked for with settings or waivers of its own. */
export const pushedBy = async (
  db: Database,
  token: string,
): Promise<readonly { readonly kind: Withdrawable; readonly id: string }[]> => {
  const trees = await Promise.all(
    (['sources', 'kernels', 'toolchains'] as const).map((table) =>
      db.selectFrom(table).select('digest').where('made_by', '=', token).execute(),
    ),
  );
  const published = await db
    .selectFrom('source_names')
    .select('source as digest')
    .where('made_by', '=', token)
    .execute();
  const builds = await db
    .selectFrom('builds')
    .select('id')
    .where('made_by', '=', token)
    .where('is_tailored', '=', 1)
    .execute();
  const [sources = [], kernels = [], toolchains = []] = trees;
  const ids = (rows: readonly { readonly digest: string }[]): readonly string[] => [
    ...new Set(rows.map(({ digest }) => digest)),
  ];
  return [
    ...ids([...sources, ...published]).map((id) => ({ kind: 'source' as const, id })),
    ...ids(kernels).map((id) => ({ kind: 'kernel' as const, id })),
    ...ids(toolchains).map((id) => ({ kind: 'toolchain' as const, id })),
    ...builds.map(({ id }) => ({ kind: 'build' as const, id })),
  ];
};
