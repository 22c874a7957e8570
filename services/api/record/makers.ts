import type { Withdrawable } from '../../core/policy/withdrawal.ts';
import type { Maker } from '../../core/protocol/parts.ts';
import type { Database } from '../../storage/database.ts';

/** The makers of records: names of tokens, by id. */
export type Makers = ReadonlyMap<string, string>;

/** The names of some tokens, revoked and expired ones included. */
export const findMakers = async (db: Database, ids: readonly string[]): Promise<Makers> => {
  const unique = [...new Set(ids)];
  const rows =
    unique.length === 0
      ? []
      : await db.selectFrom('tokens').select(['id', 'name']).where('id', 'in', unique).execute();
  return new Map(rows.map(({ id, name }) => [id, name]));
};

/** The maker of a record: a token, or a part of the service, whose id is its name. */
export const makerIn = (makers: Makers, id: string): Maker => ({ id, name: makers.get(id) ?? id });

/** The sources and kernels that a token pushed, and the builds that it asked for with settings or waivers of its own. */
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
