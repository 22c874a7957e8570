import { randomUUID } from 'node:crypto';
import type { Digest } from '../../core/digest.ts';
import type { Outcome } from '../../core/jobs/jobs.ts';
import { refusalToSign } from '../../core/policy/policy.ts';
import type { BuildTicket, RebuildView } from '../../core/protocol/build.ts';
import { createBuildMoves, type BuildRow, type Change, type Moves } from './build-moves.ts';
import { transact, type Database } from '../../storage/database.ts';
import type { CoordinatorDeps } from './coordinator-deps.ts';
import { createDependents } from './dependents.ts';
import { createEnqueue } from './enqueue.ts';
import { createRebuilds } from './rebuilds.ts';
import { dropSignatures } from '../record/artifacts.ts';
import { buildView } from '../record/build-views.ts';
import { loadBuild } from '../record/records.ts';
import { mustHaveRoom } from '../record/waiting.ts';
import { createSweep } from './sweep.ts';
import { findAnswer, isAnswered } from './known-answer.ts';
import { createOutcomes } from './outcomes.ts';
import { noteRequest } from './note-request.ts';
import type { Caller } from '../record/tokens.ts';
import { lookupsIn, resolveBuild, type BuildRequest } from '../record/resolve-build.ts';
import type { Packing } from './packing.ts';
import type { Publishing } from './publishing.ts';
import { createTurns } from './turns.ts';
import { createCancellations } from './cancellations.ts';
import { noteWithdrawal, type WithdrawalGiven } from '../record/withdrawn.ts';

/** The coordinator decides every state change of a build. It writes SQL first and tells the queue after; `sweep` repeats what a queue lost. */
export interface Coordinator {
  /** Finds or makes the build for a request, and notes who wants it. */
  request(request: BuildRequest, caller: Caller): Promise<BuildTicket>;
  /** Takes back one request, or all of them. A build ends when no request waits for it any more, and so do those it is built against. */
  cancel(build: string, request: string | null): Promise<void>;
  /** Withdraws a thing: hosts are not given it any more, and what is being built of it ends. Throws `not-found`. */
  withdraw(given: WithdrawalGiven, madeBy: string): Promise<void>;
  /** Takes an outcome in. It changes nothing if it is late or repeated, or if `sender` is not the worker that began the run. */
  accept(outcome: Outcome, sender: string): Promise<void>;
  measure(toolchain: Digest): Promise<void>;
  /** Makes a finished build again and compares the bytes. */
  rebuild(build: string): Promise<RebuildView>;
  /** Puts back on the queues what SQL says is under way and a queue no longer has. */
  sweep(): Promise<void>;
}

export const createCoordinator = (
  deps: CoordinatorDeps,
  packing: Pick<Packing, 'take' | 'enqueue'>,
  publishing: Pick<Publishing, 'take' | 'poke' | 'sweep'>,
): Coordinator => {
  const { db, now } = deps;
  const moves = createBuildMoves(deps);
  const { decide } = moves;
  const turns = createTurns(deps);
  const enqueue = createEnqueue(deps, turns);
  const dependents = createDependents(db, moves, enqueue, turns);
  const cancellations = createCancellations(deps, moves, dependents);
  const withdraw: Coordinator['withdraw'] = async (given, madeBy) => {
    await noteWithdrawal(db, now(), given, madeBy);
    await cancellations.cancelWithdrawn();
    publishing.poke();
  };
  const rebuilds = createRebuilds(db, enqueue, deps, withdraw);

  /** Sends a built build to the signer if policy allows it (true); else ends it unsigned, with the reason. */
  const goOnFromBuilt = async (
    on: Database,
    { move: moveOn }: Moves,
    id: string,
    change: Change,
  ): Promise<boolean> => {
    const { build, source, kernel, toolchain } = await loadBuild(on, id);
    const reason = refusalToSign({
      sourceTrust: source.trust,
      kernelTrust: kernel.trust,
      toolchainState: toolchain.state,
      asker: build.asker,
      isTailored: build.is_tailored === 1,
      signatureHash: kernel.signatureHash,
    });
    await dropSignatures(on, id);
    const to = reason === null ? 'signing' : 'succeeded';
    const isMoved = await moveOn(id, build.attempt, to, { ...change, unsigned_because: reason });
    return isMoved && reason === null;
  };

  const outcomes = createOutcomes(deps, {
    moves,
    rebuilds,
    enqueue,
    packing,
    publishing,
    goOnFromBuilt,
  });

  /** Starts a build that is asked for, anew if it has ended. Gives the step to take once the decision is written. */
  const wake = async (
    on: Database,
    made: Moves,
    row: BuildRow,
    isRetry: boolean,
  ): Promise<Next> => {
    if (await isAnswered(on, row, { key: deps.evidence.key, isRetry })) return 'nothing';
    switch (row.state) {
      case 'queued':
        return 'settle';
      case 'cancelled':
      case 'failed':
        await made.startAgain(row);
        return 'settle';
      case 'succeeded':
        return (await goOnFromBuilt(on, made, row.id, {})) ? 'sign' : 'nothing';
      case 'building':
      case 'signing':
        return 'wait';
      case 'excluded':
        return 'nothing';
    }
  };

  return {
    measure: (toolchain) => enqueue.measuring(toolchain),
    rebuild: (build) => rebuilds.start(build),
    withdraw,
    cancel: (build, request) => cancellations.cancel(build, request),
    sweep: createSweep(deps, { enqueue, dependents, rebuilds, packing, publishing, turns }),

    async request(wanted, caller) {
      const known = { script: deps.script, key: deps.evidence.key, now: now() };
      const answer = await deps.memory.recall(
        JSON.stringify(['answer', caller.token, wanted]),
        () => transact(db, (on) => findAnswer(on, wanted, caller, known)),
      );
      if (answer !== null) return { build: answer, request: randomUUID(), cached: true };
      // All is read again here: since the request was resolved, a toolchain may have been retired or an ended build started for somebody else.
      const { asked, woken, cached } = await decide(async (on, made) => {
        const resolved = await resolveBuild(wanted, deps.script, lookupsIn(on, caller));
        const noted = await noteRequest(on, resolved, {
          caller,
          isBackground: wanted.background,
          now: now(),
        });
        const nexts: { id: string; next: Next }[] = [];
        // Builds that it is built against are woken first.
        for (const row of [...noted.needs, noted.row])
          nexts.push({ id: row.id, next: await wake(on, made, row, wanted.retry) });
        if (nexts.at(-1)?.next !== 'nothing') {
          await mustHaveRoom(on, caller);
          return { asked: noted, woken: nexts, cached: null };
        }
        await on.deleteFrom('requests').where('id', '=', noted.request).execute();
        return { asked: noted, woken: nexts, cached: await buildView(on, noted.row.id) };
      });
      for (const { id, next } of woken) {
        if (next === 'settle') await dependents.settle(id);
        if (next === 'sign') await enqueue.signing(id);
      }
      const build = cached ?? (await buildView(db, asked.row.id));
      return { build, request: asked.request, cached: cached !== null };
    },

    async accept(outcome, sender) {
      if (!(await outcomes.take(outcome, sender))) {
        deps.log.warn(
          { outcome: outcome.kind, sender },
          'an outcome changes nothing: it is late, repeated, or not from the worker that began the run',
        );
        return;
      }
      if (outcome.kind === 'signed' || outcome.kind === 'packed') publishing.poke();
      if ('build' in outcome) await dependents.settleThoseOf(outcome.build);
    },
  };
};

/** The next step of a build that is asked for: go to the builders, go to the signer, wait for who is at work on it, or nothing. */
type Next = 'settle' | 'sign' | 'wait' | 'nothing';
