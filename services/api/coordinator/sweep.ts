import type { WorkQueue } from '../../storage/queues.ts';
import type { CoordinatorDeps } from './coordinator-deps.ts';
import type { Dependents } from './dependents.ts';
import { jobName, type Enqueue } from './enqueue.ts';
import type { Turns } from './turns.ts';
import type { Rebuilds } from './rebuilds.ts';

/** Makes the sweep, which puts back on the queues work that is under way in SQL and missing from them, as after Redis has lost its data. */
export const createSweep = (
  deps: CoordinatorDeps,
  enqueue: Enqueue,
  dependents: Pick<Dependents, 'settle'>,
  rebuilds: Pick<Rebuilds, 'goOn'>,
  turns: Pick<Turns, 'current' | 'overdue'>,
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
