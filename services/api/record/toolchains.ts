import type { Digest } from '../../core/digest.ts';
import { KilnError } from '../../core/errors.ts';
import type { ToolchainContents } from '../../core/toolchain/measurement.ts';
import { transact, type Database } from '../../storage/database.ts';
import type { Schema } from '../../storage/schema.ts';
import { toJson } from '../../storage/json-text.ts';

/** A toolchain's row, and a step of its life: measuring → candidate | pinned | refused; candidate ↔ pinned → retired. */
export type ToolchainRow = Schema['toolchains'];
type Deps = { readonly db: Database; readonly now: () => number };

export const findToolchain = async (db: Database, digest: Digest): Promise<ToolchainRow> => {
  const row = await db
    .selectFrom('toolchains')
    .selectAll()
    .where('digest', '=', digest)
    .executeTakeFirst();
  if (row === undefined)
    throw new KilnError(
      'not-found',
      `there is no toolchain ${digest}; kiln toolchain list shows them`,
    );
  return row;
};

/** Records a root file system that was sent. One that was refused before is measured again. */
export const addToolchain = async (
  { db, now }: Deps,
  digest: Digest,
  name: string,
  isCandidate: boolean,
  madeBy: string,
): Promise<ToolchainRow> => {
  await db
    .insertInto('toolchains')
    .values({
      digest,
      name,
      state: 'measuring',
      is_candidate: isCandidate ? 1 : 0,
      contents: null,
      problem: null,
      attempt: 0,
      builder: null,
      made_by: madeBy,
      created_at: now(),
      pinned_at: null,
      retired_at: null,
    })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  const there = await findToolchain(db, digest);
  if (there.name !== name && there.state !== 'refused') {
    throw new KilnError(
      'conflict',
      `this toolchain is here already as ${there.name}; use that name`,
    );
  }
  await db
    .updateTable('toolchains')
    .set({
      name,
      state: 'measuring',
      is_candidate: isCandidate ? 1 : 0,
      problem: null,
      attempt: there.attempt + 1,
      builder: null,
    })
    .where('digest', '=', digest)
    .where('state', '=', 'refused')
    .execute();
  return findToolchain(db, digest);
};

/** One attempt to measure a toolchain, by a builder. */
export interface Measuring {
  readonly toolchain: Digest;
  readonly attempt: number;
  readonly builder: string;
}

/** Notes which builder measures a toolchain; false if that attempt is not wanted any more. */
export const startMeasuring = async (
  { db }: Pick<Deps, 'db'>,
  { toolchain, attempt, builder }: Measuring,
): Promise<boolean> => {
  const { numUpdatedRows } = await db
    .updateTable('toolchains')
    .set({ builder })
    .where('digest', '=', toolchain)
    .where('state', '=', 'measuring')
    .where('attempt', '=', attempt)
    .executeTakeFirst();
  return numUpdatedRows > 0n;
};

/**
 * Takes a measurement in: the toolchain's contents, or why it cannot be used. The first toolchain of a name is pinned at once, a later
 * one is a candidate for its place. False if it is not from the builder and attempt that measure it.
 */
export const takeMeasurement = (
  { db, now }: Deps,
  of: Measuring,
  found: ToolchainContents | string,
) =>
  transact(db, async (transaction): Promise<boolean> => {
    const digest = of.toolchain;
    const row = await findToolchain(transaction, digest);
    if (row.state !== 'measuring' || row.attempt !== of.attempt || row.builder !== of.builder)
      return false;
    if (typeof found === 'string') {
      await transaction
        .updateTable('toolchains')
        .set({ state: 'refused', problem: found })
        .where('digest', '=', digest)
        .execute();
      return true;
    }
    const pinned = await pinnedOf(transaction, row.name);
    const state = row.is_candidate === 1 || pinned !== undefined ? 'candidate' : 'pinned';
    await transaction
      .updateTable('toolchains')
      .set({
        state,
        contents: toJson(found),
        problem: null,
        pinned_at: state === 'pinned' ? now() : null,
      })
      .where('digest', '=', digest)
      .execute();
    return true;
  });

const pinnedOf = (db: Database, name: string): Promise<ToolchainRow | undefined> =>
  db
    .selectFrom('toolchains')
    .selectAll()
    .where('name', '=', name)
    .where('state', '=', 'pinned')
    .executeTakeFirst();

/**
 * Pins a toolchain in the place of the one that has its name, which is retired. It must have built all that was built with that one,
 * unless `isUntried`. Promoting a retired one is how a promotion is rolled back. Throws `conflict`.
 */
export const promoteToolchain = async (
  { db, now }: Deps,
  digest: Digest,
  isUntried: boolean,
): Promise<ToolchainRow> =>
  transact(db, async (transaction) => {
    const row = await findToolchain(transaction, digest);
    if (row.state === 'pinned') return row;
    if (row.state !== 'candidate' && row.state !== 'retired')
      throw new KilnError(
        'conflict',
        `toolchain ${row.name} is ${row.state}, so it cannot be pinned`,
      );
    const pinned = await pinnedOf(transaction, row.name);
    if (pinned !== undefined) {
      if (!isUntried && row.pinned_at === null) await mustBeTried(transaction, row, pinned);
      await retire(transaction, pinned.digest, now());
    }
    await transaction
      .updateTable('toolchains')
      .set({ state: 'pinned', pinned_at: now(), retired_at: null })
      .where('digest', '=', digest)
      .execute();
    return findToolchain(transaction, digest);
  });

const mustBeTried = async (
  db: Database,
  candidate: ToolchainRow,
  pinned: ToolchainRow,
): Promise<void> => {
  const succeeded = async ({ digest }: ToolchainRow): Promise<ReadonlySet<string>> => {
    const rows = await db
      .selectFrom('builds')
      .select(['source', 'kernel'])
      .where('toolchain', '=', digest)
      .where('state', '=', 'succeeded')
      .execute();
    return new Set(rows.map(({ source, kernel }) => `${source} ${kernel}`));
  };
  const [before, now] = [await succeeded(pinned), await succeeded(candidate)];
  const open = [...before].filter((each) => !now.has(each));
  if (open.length === 0) return;
  throw new KilnError(
    'conflict',
    `${open.length} of the ${before.size} builds that ${pinned.name} ${pinned.digest} made have not been made with the candidate; make them (kiln toolchain try ${candidate.digest}), or promote it without (--untried)`,
  );
};

/** Retires a toolchain: it builds nothing new, and its builds can still be rebuilt. Throws `conflict`. */
export const retireToolchain = ({ db, now }: Deps, digest: Digest): Promise<ToolchainRow> =>
  transact(db, async (transaction) => {
    const row = await findToolchain(transaction, digest);
    if (row.state === 'retired') return row;
    if (row.state !== 'pinned' && row.state !== 'candidate')
      throw new KilnError(
        'conflict',
        `toolchain ${row.name} is ${row.state}, so it cannot be retired`,
      );
    await retire(transaction, digest, now());
    return findToolchain(transaction, digest);
  });

const retire = async (db: Database, digest: Digest, at: number): Promise<void> => {
  await db
    .updateTable('toolchains')
    .set({ state: 'retired', retired_at: at })
    .where('digest', '=', digest)
    .execute();
};
