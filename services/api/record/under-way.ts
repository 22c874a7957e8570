import { isFinished, BUILD_STATES } from '../../core/build/build-state.ts';
import type { Database } from '../../storage/database.ts';

/** When the oldest build, rebuild or package that has not ended was asked for (milliseconds since 1970): what it stores came later. `null`: there is none. */
export const underWaySince = async (db: Database): Promise<number | null> => {
  const build = await db
    .selectFrom('builds')
    .select(({ fn }) => fn.min<number | null>('created_at').as('since'))
    .where(
      'state',
      'in',
      BUILD_STATES.filter((state) => !isFinished(state)),
    )
    .executeTakeFirstOrThrow();
  const rebuild = await db
    .selectFrom('rebuilds')
    .select(({ fn }) => fn.min<number | null>('created_at').as('since'))
    .where('state', '=', 'running')
    .executeTakeFirstOrThrow();
  const packing = await db
    .selectFrom('packages')
    .select(({ fn }) => fn.min<number | null>('created_at').as('since'))
    .where('state', 'in', ['queued', 'packing'])
    .executeTakeFirstOrThrow();
  const since = [build.since, rebuild.since, packing.since].filter((time) => time !== null);
  return since.length === 0 ? null : Math.min(...since);
};
