import { BUILD_STATES, isFinished, mayBecome, type BuildState } from '../core/build-state.ts';
import type { Digest } from '../core/digest.ts';
import type { BuildFailure } from '../core/jobs.ts';
import type { Database } from '../storage/database.ts';
import type { Schema } from '../storage/schema.ts';
import type { CoordinatorDeps } from './coordinator-deps.ts';
import { noteLostBuild } from './misses.ts';
import { countWaiting } from './waiting.ts';

/** A build's row, and what may change in it along with its state. */
export type BuildRow = Schema['builds'];
export type Change = Partial<Omit<BuildRow, 'id' | 'fingerprint' | 'state'>>;

/** The only writer of a build's state. Each move says from where it may be made, so that a late or repeated one changes nothing. */
export interface BuildMoves {
  /** Moves a build on if it is where it may be moved from; false if it is not (any more). */
  move(
    id: string,
    attempt: number,
    to: BuildState,
    change?: Change,
    on?: Database,
  ): Promise<boolean>;
  /** Notes the start of a build whose outcome came before the word that it had started. */
  startLate(id: string, attempt: number): Promise<void>;
  /** Begins the next attempt of a build that ended. */
  startAgain(build: BuildRow): Promise<boolean>;
  fail(id: string, attempt: number, failure: BuildFailure, log?: Digest | null): Promise<boolean>;
}

export const createBuildMoves = ({
  db,
  signals,
  now,
}: Pick<CoordinatorDeps, 'db' | 'signals' | 'now'>): BuildMoves => {
  const move = async (
    id: string,
    attempt: number,
    to: BuildState,
    change: Change = {},
    on: Database = db,
  ): Promise<boolean> => {
    const { numUpdatedRows } = await on
      .updateTable('builds')
      .set({ ...change, state: to, ...(isFinished(to) ? { finished_at: now() } : {}) })
      .where('id', '=', id)
      .where('attempt', '=', attempt)
      .where(
        'state',
        'in',
        BUILD_STATES.filter((from) => mayBecome(from, to)),
      )
      .executeTakeFirst();
    if (numUpdatedRows === 0n) return false;
    if (isFinished(to)) {
      const isLost = to === 'failed' || to === 'excluded';
      const waiting = isLost ? await countWaiting(on, id) : 0;
      // Nobody waits for what has ended.
      await on.deleteFrom('requests').where('build', '=', id).execute();
      if (isLost && waiting > 0) await noteLostBuild(on, now(), id, to, waiting);
    }
    await signals.announce(id);
    return true;
  };

  const startLate = async (id: string, attempt: number): Promise<void> => {
    const row = await db
      .selectFrom('builds')
      .select('state')
      .where('id', '=', id)
      .executeTakeFirst();
    if (row?.state === 'queued') await move(id, attempt, 'building', { started_at: now() });
  };

  const startAgain = (build: BuildRow): Promise<boolean> =>
    move(build.id, build.attempt, 'queued', {
      attempt: build.attempt + 1,
      failure: null,
      log: null,
      started_at: null,
      finished_at: null,
    });

  const fail = (
    id: string,
    attempt: number,
    failure: BuildFailure,
    log: Digest | null = null,
  ): Promise<boolean> =>
    move(id, attempt, 'failed', {
      failure: JSON.stringify(failure),
      ...(log === null ? {} : { log }),
    });

  return { move, startLate, startAgain, fail };
};
