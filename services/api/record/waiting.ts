import { KilnError } from '../../core/errors.ts';
import type { Database } from '../../storage/database.ts';
import type { Caller } from './tokens.ts';

/**
 * The number of requests that wait for a build: its own, and those for builds that are built against it, over all layers. A request is
 * kept with the build that it asked for, until that build has ended.
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

/** Seconds after which one of many builds is likely to have ended. */
const SOON = 20;

/** Throws `too-many` where more builds would wait or run for a token than it may have, `more` new ones included. */
export const mustHaveRoom = async (
  db: Database,
  { token, quotas }: Caller,
  more = 0,
): Promise<void> => {
  if (quotas === null) return;
  const { count } = await db
    .selectFrom('requests')
    .select(({ fn }) => fn.count<number | string>('build').distinct().as('count'))
    .where('token', '=', token)
    .executeTakeFirstOrThrow();
  if (Number(count) + more <= quotas.builds) return;
  throw new KilnError(
    'too-many',
    `this token has ${quotas.builds} builds waiting or running, the most it may have at once; try again when one has ended`,
    { retryAfter: SOON },
  );
};
