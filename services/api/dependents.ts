import type { BuildState } from '../core/build-state.ts';
import type { Database } from '../storage/database.ts';
import type { BuildMoves } from './build-moves.ts';
import type { Enqueue } from './enqueue.ts';

/** Leads builds that wait for other builds on. */
export interface Dependents {
  /** Sends a queued build to the builders if all it depends on is there; ends it if any of that never will be. */
  settle(build: string): Promise<void>;
  /** Does that for every build that waits for this one. */
  settleThoseOf(build: string): Promise<void>;
}

export const createDependents = (
  db: Database,
  moves: Pick<BuildMoves, 'fail'>,
  enqueue: Pick<Enqueue, 'build'>,
): Dependents => {
  const settle = async (id: string): Promise<void> => {
    const build = await db
      .selectFrom('builds')
      .select(['state', 'attempt'])
      .where('id', '=', id)
      .executeTakeFirst();
    if (build?.state !== 'queued') return;
    const needs = await db
      .selectFrom('dependencies')
      .innerJoin('builds', 'builds.id', 'dependencies.needs')
      .innerJoin('sources', 'sources.digest', 'builds.source')
      .select(['builds.id', 'builds.state', 'sources.name', 'sources.version'])
      .where('dependencies.build', '=', id)
      .execute();
    const lost = needs.find(({ state }) => NEVER_THERE.some((end) => end === state));
    if (lost === undefined) {
      await enqueue.build(id);
      return;
    }
    const message = `it is built against ${lost.name}/${lost.version}, whose build ${lost.id} is ${lost.state}; see kiln show ${lost.id}`;
    if (await moves.fail(id, build.attempt, { code: 'dependency-failed', message, lines: [] }))
      await settleThoseOf(id);
  };

  const settleThoseOf = async (id: string): Promise<void> => {
    const waiting = await db
      .selectFrom('dependencies')
      .select('build')
      .where('needs', '=', id)
      .execute();
    for (const { build } of waiting) await settle(build);
  };

  return { settle, settleThoseOf };
};

const NEVER_THERE: readonly BuildState[] = ['failed', 'excluded', 'cancelled'];
