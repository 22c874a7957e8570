import { setTimeout as sleep } from 'node:timers/promises';
import { shortened, type BuildFailure, type Outcome } from '../../core/jobs/jobs.ts';
import { findWithdrawn, sayWithdrawn } from '../../core/policy/withdrawal.ts';
import { isShared, type Database } from '../../storage/database.ts';
import { toJson } from '../../storage/json-text.ts';
import type { BuildMoves, Change, Moves } from './build-moves.ts';
import type { CoordinatorDeps } from './coordinator-deps.ts';
import { jobName, type Enqueue } from './enqueue.ts';
import type { Packing } from './packing.ts';
import type { Publishing } from './publishing.ts';
import { problemOf } from './evidence.ts';
import {
  builtRecord,
  keepBuilt,
  keepLog,
  keepSigned,
  type BuiltRecord,
} from '../record/artifacts.ts';
import { loadBuild } from '../record/records.ts';
import type { Rebuilds } from './rebuilds.ts';
import { readWithdrawals } from '../record/withdrawn.ts';
import { startMeasuring, takeMeasurement } from '../record/toolchains.ts';

type Of<Kind extends Outcome['kind']> = Extract<Outcome, { kind: Kind }>;
type Run = { readonly build: string; readonly attempt: number };

/** Takes outcomes in, after a check of who sent them and of the stored bytes they describe. */
export interface Outcomes {
  /** Takes one in; false if it changes nothing: it is late, repeated, or not from the worker that began the run. */
  take(outcome: Outcome, sender: string): Promise<boolean>;
}

/** The coordinator's parts that outcomes need. */
export interface OutcomeDeps {
  readonly moves: BuildMoves;
  readonly rebuilds: Pick<Rebuilds, 'begin' | 'accept'>;
  readonly enqueue: Pick<Enqueue, 'signing'>;
  readonly packing: Pick<Packing, 'take'>;
  readonly publishing: Pick<Publishing, 'take'>;
  goOnFromBuilt(on: Database, made: Moves, id: string, change: Change): Promise<boolean>;
}

export const createOutcomes = (
  deps: CoordinatorDeps,
  { moves, rebuilds, enqueue, packing, publishing, goOnFromBuilt }: OutcomeDeps,
): Outcomes => {
  const { db, now, evidence, signals } = deps;

  /** Whether a run is being built, and by this builder. */
  const isAtWork = async (on: Database, { build, attempt }: Run, sender: string) => {
    const row = await on
      .selectFrom('builds')
      .select(['state', 'attempt', 'builder'])
      .where('id', '=', build)
      .executeTakeFirst();
    return row?.state === 'building' && row.attempt === attempt && row.builder === sender;
  };

  /** Tells a builder to stop where it has begun a run that is not wanted any more. */
  const begun = async (isWanted: boolean, run: string): Promise<boolean> => {
    if (!isWanted) await signals.cancel(run);
    return isWanted;
  };

  const takeBuilt = async (outcome: Of<'built'>, sender: string): Promise<boolean> => {
    const { build: id } = outcome;
    if (!(await isAtWork(db, outcome, sender))) return false;
    const problem = await problemOf(evidence.ofBuilt(outcome));
    const next = await moves.decide(async (on, made) => {
      if (!(await isAtWork(on, outcome, sender))) return 'nothing';
      if (problem !== null) {
        const message = `the builder’s report does not match what it stored: ${problem}; ask for the build again`;
        await made.fail(id, outcome.attempt, failureOf('builder-broken', message));
        return 'end';
      }
      await keepBuilt(on, outcome);
      const isToBeSigned = await goOnFromBuilt(on, made, id, {
        recipe: toJson(outcome.recipe),
        timings: toJson(outcome.timings),
      });
      return isToBeSigned ? 'sign' : 'end';
    });
    if (next === 'sign') await enqueue.signing(id);
    return next !== 'nothing';
  };

  /** The record of a build that waits for its signature; `null` if that run does not. */
  const toBeSigned = async ({ build: id, attempt }: Run): Promise<BuiltRecord | null> => {
    const { build } = await loadBuild(db, id);
    if (build.state !== 'signing' || build.attempt !== attempt) return null;
    return builtRecord(db, build);
  };

  const takeSigned = async (outcome: Of<'signed'>): Promise<boolean> => {
    const record = await toBeSigned(outcome);
    if (record === null) return false;
    const problem = await problemOf(evidence.ofSigned(outcome, record));
    const { build: id, attempt } = outcome;
    if (problem !== null) {
      const message = `the signer’s report does not match the build: ${problem}; ask the admin to look at the signer`;
      return moves.fail(id, attempt, failureOf('signing-failed', message));
    }
    return moves.decide(async (on, made) => {
      const { build, kernel } = await loadBuild(on, id);
      if (build.state !== 'signing' || build.attempt !== attempt) return false;
      const withdrawn = findWithdrawn(await readWithdrawals(on), [['signer', evidence.key]]);
      if (withdrawn !== null) {
        const message = `${sayWithdrawn(withdrawn)}; give the service’s signer another key`;
        return made.fail(id, attempt, failureOf('signing-failed', message));
      }
      await keepSigned(on, outcome, { key: evidence.key, hash: kernel.signatureHash, now: now() });
      return made.move(id, attempt, 'succeeded');
    });
  };

  const takeFromSigner = async (outcome: Outcome): Promise<boolean> => {
    if (outcome.kind === 'signed') return takeSigned(outcome);
    if (outcome.kind === 'indexed' || outcome.kind === 'unindexable')
      return publishing.take(outcome);
    if (outcome.kind !== 'unsignable' || (await toBeSigned(outcome)) === null) return false;
    return moves.fail(outcome.build, outcome.attempt, outcome.failure);
  };

  const takeFromBuilder = async (outcome: Outcome, sender: string): Promise<boolean> => {
    switch (outcome.kind) {
      case 'started': {
        const { build, attempt } = outcome;
        const change = { started_at: now(), builder: sender };
        const isWanted = await moves.move(build, attempt, 'building', change);
        return begun(isWanted, jobName.build(build, attempt));
      }
      case 'rebuilding':
        return begun(await rebuilds.begin(outcome.rebuild, sender), outcome.rebuild);
      case 'measuring':
        return startMeasuring(deps, { ...outcome, builder: sender });
      case 'built':
        return takeBuilt(outcome, sender);
      case 'rebuilt':
        return rebuilds.accept(outcome, sender);
      case 'excluded':
        return moves.decide(async (on, made) => {
          if (!(await isAtWork(on, outcome, sender))) return false;
          await keepLog(on, outcome.build, outcome.log);
          const change = { exclusion: outcome.reason };
          return made.move(outcome.build, outcome.attempt, 'excluded', change);
        });
      case 'failed':
        return moves.decide(async (on, made) => {
          if (!(await isAtWork(on, outcome, sender))) return false;
          if (outcome.log !== null) await keepLog(on, outcome.build, outcome.log);
          return made.fail(outcome.build, outcome.attempt, outcome.failure);
        });
      case 'measured':
        return takeMeasurement(deps, { ...outcome, builder: sender }, outcome.contents);
      case 'unmeasurable':
        return takeMeasurement(deps, { ...outcome, builder: sender }, outcome.problem);
      case 'packing':
      case 'packed':
      case 'unpackable':
        return packing.take(outcome, sender);
      case 'signed':
      case 'unsignable':
      case 'indexed':
      case 'unindexable':
        return false;
    }
  };

  const take = (outcome: Outcome, sender: string): Promise<boolean> =>
    deps.signers.has(sender) ? takeFromSigner(outcome) : takeFromBuilder(outcome, sender);

  /** Whether the run of an outcome may be about to be known as begun. */
  const mayBegin = async (outcome: Outcome): Promise<boolean> => {
    if (!('build' in outcome)) return true;
    const row = await db
      .selectFrom('builds')
      .select('state')
      .where('id', '=', outcome.build)
      .where('attempt', '=', outcome.attempt)
      .executeTakeFirst();
    return row?.state === 'queued' || row?.state === 'building';
  };

  return {
    async take(outcome, sender) {
      if (await take(outcome, sender)) return true;
      if (!isShared(db) || BEGINNINGS.has(outcome.kind) || !(await mayBegin(outcome))) return false;
      // Another API may be taking in at this moment that the run was begun.
      await sleep(MOMENT);
      return take(outcome, sender);
    },
  };
};

const BEGINNINGS: ReadonlySet<Outcome['kind']> = new Set([
  'started',
  'rebuilding',
  'measuring',
  'packing',
]);
/** Milliseconds. */
const MOMENT = 1000;

const failureOf = (code: BuildFailure['code'], message: string): BuildFailure =>
  shortened({ code, message, lines: [] });
