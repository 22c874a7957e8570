import { randomUUID } from 'node:crypto';
import { KilnError } from '../../core/errors.ts';
import type { Outcome } from '../../core/jobs/jobs.ts';
import type { RebuildView } from '../../core/protocol/build.ts';
import type { Database } from '../../storage/database.ts';
import { fromJson, toJson } from '../../storage/json-text.ts';
import { findBuiltAgainst } from '../record/built-against.ts';
import type { CoordinatorDeps } from './coordinator-deps.ts';
import type { Enqueue } from './enqueue.ts';
import { problemOf } from './evidence.ts';
import { unsignedModules } from '../record/artifacts.ts';
import { loadBuild } from '../record/records.ts';
import type { WithdrawalGiven } from '../record/withdrawn.ts';

/** Rebuilds: finished builds made again and compared, as one fingerprint must give the same bytes. A build that gives others is withdrawn. */
export interface Rebuilds {
  /** Starts a rebuild. Throws `not-found`, or `conflict` for a build that cannot be made again here. */
  start(build: string): Promise<RebuildView>;
  /** Sends a rebuild to the builders once everything it is built against is there; fails it if some of that cannot be had. */
  goOn(rebuild: string, build: string): Promise<void>;
  /** Notes which builder makes a rebuild; false if that rebuild is not running. */
  begin(rebuild: string, builder: string): Promise<boolean>;
  /** Takes a rebuild's outcome in; false if it is not from the builder that makes it. */
  accept(outcome: Extract<Outcome, { kind: 'rebuilt' }>, builder: string): Promise<boolean>;
}

export const createRebuilds = (
  db: Database,
  enqueue: Pick<Enqueue, 'rebuild'>,
  { now, script, evidence }: Pick<CoordinatorDeps, 'now' | 'script' | 'evidence'>,
  withdraw: (given: WithdrawalGiven, madeBy: string) => Promise<void>,
): Rebuilds => {
  const end = async (
    rebuild: string,
    state: 'same' | 'different' | 'failed',
    findings: readonly string[],
  ): Promise<void> => {
    await db
      .updateTable('rebuilds')
      .set({ state, findings: toJson(findings), finished_at: now() })
      .where('id', '=', rebuild)
      .where('state', '=', 'running')
      .execute();
  };

  const goOn = async (rebuild: string, build: string): Promise<void> => {
    const against = await findBuiltAgainst(db, build);
    if (against.kind !== 'lost') return enqueue.rebuild(build, rebuild);
    const { words, command } = against;
    await end(rebuild, 'failed', [
      `${words}; ask for that first (${command}), then for this rebuild again`,
    ]);
  };

  return {
    goOn,

    async start(id) {
      const { build } = await loadBuild(db, id);
      if (build.state !== 'succeeded')
        throw new KilnError(
          'conflict',
          `build ${id} is ${build.state}; only a build that succeeded can be rebuilt`,
        );
      if (fromJson(build.inputs).script !== script) {
        throw new KilnError(
          'conflict',
          `build ${id} was made with another version of Kiln’s build script, which its fingerprint names; rebuild it with that version`,
        );
      }
      const rebuild = `rebuild-${randomUUID()}`;
      await db
        .insertInto('rebuilds')
        .values({
          id: rebuild,
          build: id,
          builder: null,
          state: 'running',
          findings: toJson<readonly string[]>([]),
          created_at: now(),
          finished_at: null,
        })
        .execute();
      await goOn(rebuild, id);
      return rebuildView(db, rebuild);
    },

    async begin(rebuild, builder) {
      const { numUpdatedRows } = await db
        .updateTable('rebuilds')
        .set({ builder })
        .where('id', '=', rebuild)
        .where('state', '=', 'running')
        .executeTakeFirst();
      return numUpdatedRows > 0n;
    },

    async accept({ rebuild, modules, failure }, builder) {
      const row = await db
        .selectFrom('rebuilds')
        .select(['build', 'state', 'builder'])
        .where('id', '=', rebuild)
        .executeTakeFirst();
      if (row?.state !== 'running' || row.builder !== builder) return false;
      const { build } = row;
      const before = await unsignedModules(db, build);
      const made = new Map(modules.map(({ name, unsigned }) => [name, unsigned]));
      const names = new Set([...before.map(({ name }) => name), ...made.keys()]);
      const different = [...names].filter(
        (name) => before.find((each) => each.name === name)?.unsigned !== made.get(name),
      );
      const problem = failure?.message ?? (await problemOf(evidence.ofModules(modules)));
      if (problem !== null) {
        await end(rebuild, 'failed', [problem]);
        return true;
      }
      const findings = await Promise.all(
        different.map(async (name) => {
          const first = before.find((each) => each.name === name)?.unsigned;
          const then = made.get(name);
          if (first === undefined || then === undefined)
            return `${name}.ko (made in only one of the two)`;
          const sections = await evidence.difference(first, then);
          return `${name}.ko${sections.length === 0 ? '' : ` (in ${sections.join(', ')})`}`;
        }),
      );
      if (different.length > 0) {
        const which = different.map((name) => `${name}.ko`);
        const reason = `${rebuild} gave other bytes of ${which.join(', ')}`;
        await withdraw({ kind: 'build', id: build, reason: reason.slice(0, 300) }, 'rebuild');
      }
      await end(rebuild, different.length > 0 ? 'different' : 'same', findings);
      return true;
    },
  };
};

/** A rebuild as the wire shows it. Throws `not-found`. */
export const rebuildView = async (db: Database, id: string): Promise<RebuildView> => {
  const row = await db.selectFrom('rebuilds').selectAll().where('id', '=', id).executeTakeFirst();
  if (row === undefined) throw new KilnError('not-found', `there is no rebuild ${id}`);
  return {
    id: row.id,
    build: row.build,
    state: row.state,
    findings: fromJson(row.findings),
    createdAt: row.created_at,
    finishedAt: row.finished_at,
  };
};
