import type { Database } from '../../storage/database.ts';
import type { BuildMoves } from './build-moves.ts';
import { findBuiltAgainst } from '../record/built-against.ts';
import type { Turns } from './turns.ts';
import type { Enqueue } from './enqueue.ts';

/** Builds that wait for other builds. */
export interface Dependents {
  /** Sends a queued build to the builders if everything it is built against is there; ends it if some of that cannot be had. */
  settle(build: string): Promise<void>;
  /** Settles every build that waits for this one, or for this one's place with the builders. */
  settleThoseOf(build: string): Promise<void>;
}

export const createDependents = (
  db: Database,
  { decide }: Pick<BuildMoves, 'decide'>,
  enqueue: Pick<Enqueue, 'build'>,
  turns: Pick<Turns, 'after'>,
): Dependents => {
  const settle = async (id: string): Promise<void> => {
    const next = await decide(async (on, { fail }) => {
      const build = await on
        .selectFrom('builds')
        .select(['state', 'attempt'])
        .where('id', '=', id)
        .executeTakeFirst();
      if (build?.state !== 'queued') return 'nothing';
      const against = await findBuiltAgainst(on, id);
      if (against.kind !== 'lost') return 'build';
      // The other builds that it is built against are not cancelled: the next request for this one can use them.
      const message = `${against.words}; see kiln show ${against.build}`;
      const failure = { code: 'dependency-failed', message, lines: [] } as const;
      return (await fail(id, build.attempt, failure)) ? 'lost' : 'nothing';
    });
    if (next === 'build') await enqueue.build(id);
    if (next === 'lost') await settleThoseOf(id);
  };

  const settleThoseOf = async (id: string): Promise<void> => {
    const waiting = await db
      .selectFrom('dependencies')
      .select('build')
      .where('needs', '=', id)
      .execute();
    for (const { build } of waiting) await settle(build);
    for (const build of await turns.after(id)) await settle(build);
  };

  return { settle, settleThoseOf };
};
