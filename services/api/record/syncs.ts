import type { SyncView } from '../../core/protocol/archive.ts';
import type { Database } from '../../storage/database.ts';
import { fromJson, toJson } from '../../storage/json-text.ts';

/** What is said of the run over the archives, for all APIs. */

/** Milliseconds between two words of an API that makes a run. */
export const SAID_EVERY = 5_000;
/** After so long without a word, the API that made it has died. */
const DEAD_AFTER = 30_000;

const NOTHING: SyncView = {
  state: 'idle',
  step: '',
  kernels: [],
  sources: [],
  builds: [],
  problems: [],
  finishedAt: null,
};

/** A run that begins. */
export const newSync: SyncView = { ...NOTHING, state: 'running', step: 'beginning' };

/** The run under way, or the end of the last one. */
export const readSync = async (db: Database, now: number): Promise<SyncView> => {
  const row = await db.selectFrom('syncs').selectAll().executeTakeFirst();
  if (row === undefined) return NOTHING;
  const view = fromJson(row.view);
  if (view.state === 'idle' || row.said_at > now - DEAD_AFTER) return view;
  const problem = 'it ended with the API that made it; start it again (kiln kernel sync)';
  return {
    ...view,
    state: 'idle',
    step: '',
    problems: [...view.problems, problem],
    finishedAt: row.said_at,
  };
};

/** Says how a run stands. */
export const saySync = async (db: Database, view: SyncView, now: number): Promise<void> => {
  const said = { view: toJson(view), said_at: now };
  await db
    .insertInto('syncs')
    .values({ name: 'archives', ...said })
    .onConflict((conflict) => conflict.column('name').doUpdateSet(said))
    .execute();
};
