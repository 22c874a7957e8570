import { BUILD_STATES, isFinished } from '../../core/build/build-state.ts';
import { KilnError } from '../../core/errors.ts';
import { findWithdrawn } from '../../core/policy/withdrawal.ts';
import type { BuildMoves } from './build-moves.ts';
import type { CoordinatorDeps } from './coordinator-deps.ts';
import type { Dependents } from './dependents.ts';
import { jobName } from './enqueue.ts';
import { loadBuild } from '../record/records.ts';
import { countWaiting } from '../record/waiting.ts';
import { madeOfRow, readWithdrawals } from '../record/withdrawn.ts';

/** Ends builds that nobody waits for any more. */
export interface Cancellations {
  /**
   * Takes back one request (`null`: all of them). Then it ends the build, and those it is built against layer by layer, unless another
   * request needs them. With `null` the build ends even where other builds wait for it: these fail.
   * Throws `not-found`, or `conflict` if the build has ended already.
   */
  cancel(build: string, request: string | null): Promise<void>;
  /** Ends all builds that were withdrawn, or what they are made of. */
  cancelWithdrawn(): Promise<void>;
}

const UNFINISHED = BUILD_STATES.filter((state) => !isFinished(state));

export const createCancellations = (
  { db, signals, builder }: Pick<CoordinatorDeps, 'db' | 'signals' | 'builder'>,
  { decide }: Pick<BuildMoves, 'decide'>,
  dependents: Pick<Dependents, 'settleThoseOf'>,
): Cancellations => {
  /** Tells the builders that a build was cancelled, settles the builds that waited for it, and ends those it needed that nobody else wants. */
  const follow = async (id: string, attempt: number): Promise<void> => {
    const run = jobName.build(id, attempt);
    await signals.cancel(run);
    await builder.remove(run);
    await dependents.settleThoseOf(id);
    const needs = await db
      .selectFrom('dependencies')
      .innerJoin('builds', 'builds.id', 'dependencies.needs')
      .select(['builds.id', 'builds.attempt'])
      .where('dependencies.build', '=', id)
      .where('builds.state', 'in', UNFINISHED)
      .execute();
    for (const need of needs) await endUnlessWanted(need.id, need.attempt);
  };

  const endUnlessWanted = async (id: string, attempt: number): Promise<void> => {
    const isCancelled = await decide(
      async (on, { move }) =>
        (await countWaiting(on, id)) === 0 && (await move(id, attempt, 'cancelled')),
    );
    if (isCancelled) await follow(id, attempt);
  };

  return {
    async cancelWithdrawn() {
      const withdrawals = await readWithdrawals(db);
      const open = await db
        .selectFrom('builds')
        .select(['id', 'attempt', 'inputs', 'fingerprint'])
        .where('state', 'in', UNFINISHED)
        .execute();
      for (const build of open) {
        if (findWithdrawn(withdrawals, madeOfRow(build, null)) === null) continue;
        const { id, attempt } = build;
        if (await decide((_, { move }) => move(id, attempt, 'cancelled')))
          await follow(id, attempt);
      }
    },

    async cancel(id, request) {
      const cancelled = await decide(async (on, { move }) => {
        const { build } = await loadBuild(on, id);
        const { state } = build;
        if (isFinished(state))
          throw new KilnError(
            'conflict',
            `build ${id} has ended as ${state}; only a build under way can be cancelled`,
          );
        let deletion = on.deleteFrom('requests').where('build', '=', id);
        if (request !== null) deletion = deletion.where('id', '=', request);
        await deletion.execute();
        if (request !== null && (await countWaiting(on, id)) > 0) return null;
        return (await move(id, build.attempt, 'cancelled')) ? build.attempt : null;
      });
      if (cancelled !== null) await follow(id, cancelled);
    },
  };
};
