import {
  BUILD_STATES,
  isFinished,
  mayBecome,
  type BuildState,
} from '../../core/build/build-state.ts';
import type { BuildFailure } from '../../core/jobs/jobs.ts';
import { transact, type Database } from '../../storage/database.ts';
import type { Schema } from '../../storage/schema.ts';
import { toJson } from '../../storage/json-text.ts';
import type { CoordinatorDeps } from './coordinator-deps.ts';
import { dropLog } from '../record/artifacts.ts';
import { meterEnd } from '../record/ended-builds.ts';
import { noteLostBuild } from '../record/misses.ts';
import { countWaiting } from '../record/waiting.ts';

/** A build's row, and what may change in it along with its state. */
export type BuildRow = Schema['builds'];
export type Change = Partial<Omit<BuildRow, 'id' | 'fingerprint' | 'state'>>;

/** Moves of a build from state to state. Each is made only from the states that allow it, so that a late or repeated one changes nothing. */
export interface Moves {
  /** Moves a build to a state; false if its present state or attempt does not allow that. */
  move(id: string, attempt: number, to: BuildState, change?: Change): Promise<boolean>;
  /** Begins the next attempt of a build that ended. */
  startAgain(build: BuildRow): Promise<boolean>;
  fail(id: string, attempt: number, failure: BuildFailure): Promise<boolean>;
}

/** The only writer of a build's state. */
export interface BuildMoves extends Moves {
  /**
   * Runs a decision in a transaction, so that nothing changes between its reads and its moves. The decision uses only its arguments and
   * waits for nothing but SQL. The moves are announced after the transaction.
   */
  decide<T>(decision: (on: Database, moves: Moves) => Promise<T>): Promise<T>;
}

export const createBuildMoves = ({
  db,
  signals,
  meters,
  now,
  log,
}: Pick<CoordinatorDeps, 'db' | 'signals' | 'meters' | 'now' | 'log'>): BuildMoves => {
  const decide: BuildMoves['decide'] = async (decision) => {
    const { result, moved } = await transact(db, async (on) => {
      const states = new Map<string, BuildState>();
      const decided = await decision(
        on,
        movesOn(on, now, (id, to) => states.set(id, to)),
      );
      return { result: decided, moved: states };
    });
    for (const id of moved.keys()) await signals.announce(id);
    for (const [id, to] of moved) {
      if (!isFinished(to)) continue;
      // What was decided is written, whether it is counted or not.
      await meterEnd(db, meters, id).catch((error: unknown) =>
        log.warn({ err: error, build: id }, 'metrics'),
      );
    }
    return result;
  };
  return {
    decide,
    move: (...args) => decide((_, { move }) => move(...args)),
    startAgain: (...args) => decide((_, { startAgain }) => startAgain(...args)),
    fail: (...args) => decide((_, { fail }) => fail(...args)),
  };
};

const movesOn = (
  on: Database,
  now: () => number,
  moved: (id: string, to: BuildState) => void,
): Moves => {
  const move: Moves['move'] = async (id, attempt, to, change = {}) => {
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
      // A build that has ended has no requests waiting for it.
      await on.deleteFrom('requests').where('build', '=', id).execute();
      if (isLost && waiting > 0) await noteLostBuild(on, now(), id, to, waiting);
    }
    moved(id, to);
    return true;
  };

  const startAgain: Moves['startAgain'] = async ({ id, attempt }) => {
    const isMoved = await move(id, attempt, 'queued', {
      attempt: attempt + 1,
      builder: null,
      failure: null,
      timings: null,
      started_at: null,
      finished_at: null,
    });
    if (isMoved) await dropLog(on, id);
    return isMoved;
  };

  const fail: Moves['fail'] = (id, attempt, failure) =>
    move(id, attempt, 'failed', { failure: toJson(failure) });

  return { move, startAgain, fail };
};
