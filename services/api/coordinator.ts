import type { BuildState } from '../core/build-state.ts';
import type { Digest } from '../core/digest.ts';
import type { BuildFailure, Outcome } from '../core/jobs.ts';
import { refusalToSign, type Role } from '../core/policy.ts';
import type { BuildTicket, RebuildView } from '../core/protocol.ts';
import type { ToolchainState } from '../core/toolchain.ts';
import { createBuildMoves, type BuildRow, type Change } from './build-moves.ts';
import type { CoordinatorDeps } from './coordinator-deps.ts';
import { createDependents } from './dependents.ts';
import { createEnqueue } from './enqueue.ts';
import { createRebuilds } from './rebuilds.ts';
import { buildView, loadBuild } from './records.ts';
import { createSweep } from './sweep.ts';
import { takeMeasurement } from './toolchains.ts';
import { noteRequest, type Asker } from './note-request.ts';
import { resolveBuild, type BuildRequest } from './resolve-build.ts';
import { createWithdrawals } from './withdrawals.ts';

/** Decides every state change of a build. SQL first; a queue is told after, and `sweep` tells it again if that was lost. */
export interface Coordinator {
  /** Finds or makes the build for a request, and notes who wants it. */
  request(request: BuildRequest, asker: Asker): Promise<BuildTicket>;
  /** Takes back one request, or all of them: a build ends when nobody waits for it any more, and what it is built against likewise. */
  withdraw(build: string, request: string | null): Promise<void>;
  /** Takes in what a worker reports. Late, repeated and out-of-order reports change nothing. */
  accept(outcome: Outcome): Promise<void>;
  measure(toolchain: Digest): Promise<void>;
  /** Makes a finished build again and compares the bytes. */
  rebuild(build: string): Promise<RebuildView>;
  /** Puts back on the queues what SQL says is under way and a queue no longer has. */
  sweep(): Promise<void>;
}

export const createCoordinator = (deps: CoordinatorDeps): Coordinator => {
  const { db, now } = deps;
  const moves = createBuildMoves(deps);
  const { move, startAgain } = moves;
  const enqueue = createEnqueue(deps);
  const rebuilds = createRebuilds(db, enqueue, deps);
  const dependents = createDependents(db, moves, enqueue);
  const withdrawals = createWithdrawals(deps, moves, dependents);

  /** Sends a built build on: to the signer if policy lets it, else to its end, with the reason. */
  const goOnFromBuilt = async (id: string, attempt: number, change: Change): Promise<void> => {
    const { build, source, kernel, toolchain } = await loadBuild(db, id);
    const reason = refusalToSign({
      sourceTrust: source.trust,
      kernelTrust: kernel.trust,
      toolchainState: toolchain.state as ToolchainState,
      asker: build.asker as Role,
      isTailored: build.is_tailored === 1,
      signatureHash: kernel.signatureHash,
    });
    if (reason === null) {
      if (await move(id, attempt, 'signing', { ...change, signature: null }))
        await enqueue.signing(id);
      return;
    }
    await move(id, attempt, 'succeeded', {
      ...change,
      signature: JSON.stringify({ kind: 'unsigned', reason }),
    });
  };

  const acceptBuilt = async (outcome: Extract<Outcome, { kind: 'built' }>): Promise<void> => {
    const { build: id, attempt } = outcome;
    const row = await db
      .selectFrom('builds')
      .select(['state', 'attempt'])
      .where('id', '=', id)
      .executeTakeFirst();
    if (row?.attempt !== attempt || (row.state !== 'queued' && row.state !== 'building')) return;
    await db.transaction().execute(async (transaction) => {
      await transaction.deleteFrom('modules').where('build', '=', id).execute();
      for (const { name, unsigned, size, modinfo } of outcome.modules) {
        await transaction
          .insertInto('modules')
          .values({
            build: id,
            name,
            unsigned,
            signed: null,
            size,
            modinfo: JSON.stringify(modinfo),
          })
          .execute();
      }
    });
    await moves.startLate(id, attempt);
    await goOnFromBuilt(id, attempt, {
      recipe: JSON.stringify(outcome.recipe),
      exports: outcome.exports,
      log: outcome.log,
      timings: JSON.stringify(outcome.timings),
    });
  };

  const acceptSigned = async (outcome: Extract<Outcome, { kind: 'signed' }>): Promise<void> => {
    const { build, kernel } = await loadBuild(db, outcome.build);
    if (build.state !== 'signing' || build.attempt !== outcome.attempt) return;
    await db.transaction().execute(async (transaction) => {
      for (const { name, signed } of outcome.modules) {
        await transaction
          .updateTable('modules')
          .set({ signed })
          .where('build', '=', build.id)
          .where('name', '=', name)
          .execute();
      }
    });
    await move(build.id, outcome.attempt, 'succeeded', {
      signature: JSON.stringify({ kind: 'signed', key: outcome.key, hash: kernel.signatureHash }),
      attestation: outcome.attestation,
    });
  };

  /** Gets a build going that is not, or not any more. True if there is nothing to wait for. */
  const wake = async (row: BuildRow, isRetry: boolean): Promise<boolean> => {
    const state = row.state as BuildState;
    switch (state) {
      case 'queued':
        await dependents.settle(row.id);
        return false;
      case 'cancelled':
        if (await startAgain(row)) await dependents.settle(row.id);
        return false;
      case 'failed':
        if (!isRetry && !isCurable(row)) return true;
        if (await startAgain(row)) await dependents.settle(row.id);
        return false;
      case 'excluded':
        return true;
      case 'succeeded':
        if (!row.signature?.includes('"unsigned"')) return true;
        await goOnFromBuilt(row.id, row.attempt, {});
        return (await buildView(db, row.id)).state === 'succeeded';
      case 'building':
      case 'signing':
        return false;
    }
  };

  /** Takes in one outcome, before those who wait for that build are led on. */
  const take = async (outcome: Outcome): Promise<void> => {
    switch (outcome.kind) {
      case 'started':
        await move(outcome.build, outcome.attempt, 'building', { started_at: now() });
        return;
      case 'built':
        await acceptBuilt(outcome);
        return;
      case 'rebuilt':
        await rebuilds.accept(outcome);
        return;
      case 'excluded':
        await moves.startLate(outcome.build, outcome.attempt);
        await move(outcome.build, outcome.attempt, 'excluded', {
          exclusion: outcome.reason,
          log: outcome.log,
        });
        return;
      case 'failed':
        await moves.fail(outcome.build, outcome.attempt, outcome.failure, outcome.log);
        return;
      case 'signed':
        await acceptSigned(outcome);
        return;
      case 'measured':
        await takeMeasurement(deps, outcome.toolchain, outcome.contents);
        return;
      case 'unmeasurable':
        await db
          .updateTable('toolchains')
          .set({ state: 'refused', problem: outcome.problem })
          .where('digest', '=', outcome.toolchain)
          .where('state', '=', 'measuring')
          .execute();
        return;
      case 'signer':
        await db
          .insertInto('signers')
          .values({ key: outcome.key, certificate: outcome.certificate, seen_at: now() })
          .onConflict((conflict) => conflict.column('key').doUpdateSet({ seen_at: now() }))
          .execute();
    }
  };

  return {
    measure: (toolchain) => enqueue.measuring(toolchain),
    rebuild: (build) => rebuilds.start(build),
    withdraw: (build, request) => withdrawals.withdraw(build, request),
    sweep: createSweep(deps, enqueue, dependents, rebuilds),

    async request(wanted, asker) {
      const resolved = await resolveBuild(db, wanted, deps.script);
      const asked = await db
        .transaction()
        .execute((transaction) => noteRequest(transaction, resolved, { ...asker, now: now() }));
      // What it is built against goes first.
      for (const row of asked.needs) await wake(row, wanted.retry);
      const isCached = await wake(asked.row, wanted.retry);
      if (isCached) await db.deleteFrom('requests').where('id', '=', asked.request).execute();
      return { build: await buildView(db, asked.row.id), request: asked.request, cached: isCached };
    },

    async accept(outcome) {
      await take(outcome);
      if ('build' in outcome) await dependents.settleThoseOf(outcome.build);
    },
  };
};

/** What a next try may cure: the failure was a machine's or another build's, not the source's. */
const isCurable = (row: BuildRow): boolean => {
  const failure = JSON.parse(row.failure ?? '{}') as Partial<BuildFailure>;
  return (
    failure.code === 'builder-broken' ||
    failure.code === 'signing-failed' ||
    failure.code === 'dependency-failed'
  );
};
