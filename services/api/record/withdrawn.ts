import { KilnError } from '../../core/errors.ts';
import { isDigest, type Digest } from '../../core/digest.ts';
import type { WithdrawalView } from '../../core/protocol/withdrawal.ts';
import {
  findWithdrawn,
  madeOf,
  sayWithdrawn,
  type MadeOf,
  type Withdrawable,
  type Withdrawal,
} from '../../core/policy/withdrawal.ts';
import type { PageQuery } from '../../core/protocol/parts.ts';
import type { Database } from '../../storage/database.ts';
import type { Schema } from '../../storage/schema.ts';
import { fromJson } from '../../storage/json-text.ts';
import { findMakers, makerIn } from './makers.ts';
import { readPage, type Page } from './pages.ts';

/** Withdrawals: the things that hosts are not given any more, and why. */

/** Withdrawals, the latest first. */
export const listWithdrawals = async (
  db: Database,
  wanted: PageQuery,
): Promise<Page<WithdrawalView>> => {
  const { items, next } = await readPage(
    db.selectFrom('withdrawals').selectAll(),
    { table: 'withdrawals', columns: ['created_at', 'kind', 'id'], direction: 'desc' },
    wanted,
  );
  const makers = await findMakers(
    db,
    items.map(({ made_by }) => made_by),
  );
  const views = items.map(({ made_by, created_at, ...row }) => ({
    ...row,
    madeBy: makerIn(makers, made_by),
    createdAt: created_at,
  }));
  return { items: views, next };
};

/** All withdrawals, to check other things against. */
export const readWithdrawals = (db: Database): Promise<readonly Withdrawal[]> =>
  db.selectFrom('withdrawals').select(['kind', 'id', 'name', 'reason']).execute();

/** Why hosts are not given what is made of these things, in words, or `null`. */
export const whyWithdrawn = (withdrawals: readonly Withdrawal[], parts: MadeOf): string | null => {
  const found = findWithdrawn(withdrawals, parts);
  return found === null ? null : sayWithdrawn(found);
};

/** Throws `withdrawn` where one of the things was withdrawn. */
export const mustNotBeWithdrawn = (
  withdrawals: readonly Withdrawal[],
  parts: MadeOf,
  next: string,
): void => {
  const found = findWithdrawn(withdrawals, parts);
  if (found !== null) throw new KilnError('withdrawn', `${sayWithdrawn(found)}; ${next}`);
};

/** A withdrawal to make: the thing by its id (a source also as NAME/VERSION), and the reason. */
export interface WithdrawalGiven {
  readonly kind: Withdrawable;
  readonly id: string;
  readonly reason: string;
}

/**
 * Notes a withdrawal, the newer reason counting, and gives it back. `madeBy` is a token's id, or what the service calls itself. Who
 * notes one ends what is being built of it (`Coordinator.withdraw` does both). Throws `not-found`.
 */
export const noteWithdrawal = async (
  db: Database,
  now: number,
  given: WithdrawalGiven,
  madeBy: string,
): Promise<Withdrawal> => {
  const { kind, reason } = given;
  const row = { kind, ...(await mustBeHere(db, kind, given.id)), reason };
  await db
    .insertInto('withdrawals')
    .values({ ...row, made_by: madeBy, created_at: now })
    .onConflict((conflict) => conflict.columns(['kind', 'id']).doUpdateSet({ reason }))
    .execute();
  return row;
};

/** Takes a withdrawal back. Throws `not-found`. */
export const endWithdrawal = async (
  db: Database,
  kind: Withdrawable,
  called: string,
): Promise<void> => {
  const { id } = await mustBeHere(db, kind, called);
  const { numDeletedRows } = await db
    .deleteFrom('withdrawals')
    .where('kind', '=', kind)
    .where('id', '=', id)
    .executeTakeFirst();
  if (numDeletedRows === 0n)
    throw new KilnError(
      'not-found',
      `no ${kind} ${id} was withdrawn; kiln withdraw lists what was`,
    );
};

interface Named {
  readonly id: string;
  /** The thing's name for people. */
  readonly name: string;
}

const mustBeHere = async (db: Database, kind: Withdrawable, called: string): Promise<Named> => {
  const found = await lookUp(db, kind, called);
  if (found !== undefined) return found;
  throw new KilnError('not-found', `there is no ${kind} ${called}`);
};

/** Finds a thing by its id; a source also as NAME/VERSION. */
const lookUp = async (
  db: Database,
  kind: Withdrawable,
  called: string,
): Promise<Named | undefined> => {
  switch (kind) {
    case 'source': {
      const [name = '', version = ''] = called.split('/');
      const digest = db
        .selectFrom('source_names')
        .select('source')
        .where('name', '=', name)
        .where('version', '=', version);
      const row = await db
        .selectFrom('sources')
        .select(['digest', 'name', 'version'])
        .where('digest', '=', isDigest(called) ? called : digest)
        .executeTakeFirst();
      return row === undefined ? undefined : { id: row.digest, name: `${row.name}/${row.version}` };
    }
    case 'kernel':
      return isDigest(called)
        ? db
            .selectFrom('kernels')
            .select(['digest as id', 'release as name'])
            .where('digest', '=', called)
            .executeTakeFirst()
        : undefined;
    case 'toolchain':
      return isDigest(called)
        ? db
            .selectFrom('toolchains')
            .select(['digest as id', 'name'])
            .where('digest', '=', called)
            .executeTakeFirst()
        : undefined;
    case 'build':
      return db
        .selectFrom('builds')
        .select(['id', 'id as name'])
        .where('id', '=', called)
        .executeTakeFirst();
    case 'signer':
      return db
        .selectFrom('signers')
        .select(['key as id', 'key as name'])
        .where('key', '=', called)
        .executeTakeFirst();
  }
};

/** Throws `withdrawn` for what only withdrawn builds have made, or only a withdrawn signer has signed; logs are for everybody to read. */
export const mustBeGiven = async (db: Database, artifact: Digest): Promise<void> => {
  const builds = await db
    .selectFrom('artifacts')
    .innerJoin('builds', 'builds.id', 'artifacts.build')
    .select(['inputs', 'fingerprint', 'key'])
    .where('digest', '=', artifact)
    .where('kind', '!=', 'log')
    .execute();
  const withdrawals = builds.length === 0 ? [] : await readWithdrawals(db);
  const reasons = builds.map((build) =>
    findWithdrawn(withdrawals, madeOfRow(build, build.key === '' ? null : build.key)),
  );
  const [first] = reasons;
  if (first === undefined || first === null || reasons.includes(null)) return;
  throw new KilnError('withdrawn', `${sayWithdrawn(first)}; ${OTHER_BUILD}`);
};

/** Throws `withdrawn` for a package of a build that was withdrawn, or that a key signed which was. */
export const mustBeOfGiven = async (
  db: Database,
  { build, key }: { readonly build: string; readonly key: string },
): Promise<void> => {
  const row = await db
    .selectFrom('builds')
    .select(['inputs', 'fingerprint'])
    .where('id', '=', build)
    .executeTakeFirst();
  if (row !== undefined)
    mustNotBeWithdrawn(await readWithdrawals(db), madeOfRow(row, key), OTHER_BUILD);
};

const OTHER_BUILD = 'kiln install takes what there is instead';

/** The things that a build was made of, and the key that it is signed with. */
export const madeOfRow = (
  { inputs, fingerprint }: Pick<Schema['builds'], 'inputs' | 'fingerprint'>,
  key: string | null,
): MadeOf => madeOf(fromJson(inputs), fingerprint, key);
