import type { WorkQueue } from '../../storage/queues.ts';
import type { CoordinatorDeps } from './coordinator-deps.ts';
import type { Dependents } from './dependents.ts';
import { jobName, type Enqueue } from './enqueue.ts';
import { packageRun } from '../../core/jobs/run-name.ts';
import type { Publishing } from './publishing.ts';
import type { Packing } from './packing.ts';
import type { Turns } from './turns.ts';
import type { Rebuilds } from './rebuilds.ts';

/** The coordinator's parts that put work on the queues. */
export interface SweptParts {
  readonly enqueue: Enqueue;
  readonly dependents: Pick<Dependents, 'settle'>;
  readonly rebuilds: Pick<Rebuilds, 'goOn'>;
  readonly packing: Pick<Packing, 'enqueue'>;
  readonly publishing: Pick<Publishing, 'sweep'>;
  readonly turns: Pick<Turns, 'current' | 'overdue'>;
}

/** Makes the sweep, which puts back on the queues work that is under way in SQL and missing from them, as after Redis has lost its data. */
export const createSweep = (
  deps: CoordinatorDeps,
  { enqueue, dependents, rebuilds, packing, publishing, turns }: SweptParts,
): (() => Promise<void>) => {
  const { db } = deps;
  const missing = new Map<string, number>();

  return async () => {
    const putBack = async (
      queue: Pick<WorkQueue<unknown>, 'has'>,
      name: string,
      add: () => Promise<void>,
    ): Promise<void> => {
      const times = (await queue.has(name)) ? 0 : (missing.get(name) ?? 0) + 1;
      missing.set(name, times);
      // A job that is missing in one sweep may have ended, with its outcome still on the way. Missing in two, it is lost.
      if (times < 2) return;
      missing.delete(name);
      deps.log.warn({ job: name }, 'put back on its queue');
      await add();
    };
    const atTurn = await turns.current();
    const open = await db
      .selectFrom('builds')
      .select(['id', 'attempt', 'state'])
      .where('state', 'in', ['queued', 'building', 'signing'])
      .orderBy('created_at')
      .execute();
    for (const { id, attempt, state } of open) {
      if (state === 'signing')
        await putBack(deps.signer, jobName.build(id, attempt), () => enqueue.signing(id));
      else if (state === 'queued' && !atTurn.has(id)) continue;
      else if (state === 'queued')
        await putBack(deps.builder, jobName.build(id, attempt), () => dependents.settle(id));
      else await putBack(deps.builder, jobName.build(id, attempt), () => enqueue.build(id));
    }
    for (const id of await turns.overdue()) await dependents.settle(id);
    const rebuilding = await db
      .selectFrom('rebuilds')
      .select(['id', 'build'])
      .where('state', '=', 'running')
      .execute();
    for (const { id, build } of rebuilding)
      await putBack(deps.builder, id, () => rebuilds.goOn(id, build));
    const unpacked = await db
      .selectFrom('packages')
      .select(['id', 'attempt'])
      .where('state', 'in', ['queued', 'packing'])
      .execute();
    for (const { id, attempt } of unpacked)
      await putBack(deps.builder, packageRun(id, attempt), () => packing.enqueue(id));
    await publishing.sweep();
    const unmeasured = await db
      .selectFrom('toolchains')
      .select(['digest', 'attempt'])
      .where('state', '=', 'measuring')
      .execute();
    for (const { digest, attempt } of unmeasured) {
      await putBack(deps.builder, jobName.measuring(digest, attempt), () =>
        enqueue.measuring(digest),
      );
    }
  };
};
