import type { Database } from '../../storage/database.ts';

/**
 * How many requests wait for a build: its own, and those for builds that are built against it, whatever the layer. A request is
 * kept with the one build it asked for, until that has ended.
 */
export const countWaiting = async (db: Database, build: string): Promise<number> => {
  const { count } = await db
    .withRecursive('waiting(build)', (query) =>
      query
        .selectFrom('builds')
        .select('id as build')
        .where('id', '=', build)
        .union((above) =>
          above
            .selectFrom('dependencies')
            .innerJoin('waiting', 'waiting.build', 'dependencies.needs')
            .select('dependencies.build'),
        ),
    )
    .selectFrom('requests')
    .innerJoin('waiting', 'waiting.build', 'requests.build')
    .select(({ fn }) => fn.countAll<number | string>().as('count'))
    .executeTakeFirstOrThrow();
  return Number(count);
};
