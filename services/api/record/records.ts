import type { NotNull } from 'kysely';
import { KilnError } from '../../core/errors.ts';
import type { TreeOrigin } from '../../core/jobs/jobs.ts';
import type { Kernel } from '../../core/kernel/kernel.ts';
import type { Trust } from '../../core/policy/policy.ts';
import { KernelView } from '../../core/protocol/kernel.ts';
import { SourceView } from '../../core/protocol/source.ts';
import type { ToolchainView } from '../../core/protocol/toolchain.ts';
import type { Source } from '../../core/source/source.ts';
import type { ReadyToolchain, ToolchainState } from '../../core/toolchain/toolchain.ts';
import type { Withdrawal } from '../../core/policy/withdrawal.ts';
import type { Database } from '../../storage/database.ts';
import type { Schema } from '../../storage/schema.ts';
import { fromJson } from '../../storage/json-text.ts';
import { findMakers, makerIn, type Makers } from './makers.ts';
import { readWithdrawals, whyWithdrawn } from './withdrawn.ts';

/** SQL rows as the domain's values and the wire's views. */

/** A stored tree: what it is, where its bytes are, and who vouches for it. */
export type Stored<T> = T &
  TreeOrigin & {
    readonly trust: Trust;
    /** The token that vouches for it. */
    readonly madeBy: string;
    readonly createdAt: number;
  };
export type StoredKernel = Stored<Kernel>;
/** A source, and the Git commit it was checked out from. */
export type StoredSource = Stored<Source> & { readonly commit: string | null };

const origin = (row: Pick<Schema['kernels'], 'blob' | 'layout'>): TreeOrigin => ({
  blob: row.blob,
  layout: fromJson(row.layout),
});

export const sourceOf = (row: Schema['sources']): StoredSource => ({
  digest: row.digest,
  tree: row.tree,
  name: row.name,
  version: row.version,
  kind: row.kind,
  ...fromJson(row.facts),
  commit: row.commit_id,
  ...origin(row),
  trust: row.trust,
  madeBy: row.made_by,
  createdAt: row.created_at,
});

export const kernelOf = (row: Schema['kernels']): Stored<Kernel> => ({
  ...fromJson(row.record),
  ...origin(row),
  trust: row.trust,
  madeBy: row.made_by,
  createdAt: row.created_at,
});

/** What views of trees show besides: names of those who vouch for them, and what was withdrawn. */
export interface Besides {
  readonly makers: Makers;
  readonly withdrawals: readonly Withdrawal[];
}

/** What is shown besides of some trees. */
export const besidesOf = async (
  db: Database,
  trees: readonly { readonly madeBy: string }[],
): Promise<Besides> => ({
  makers: await findMakers(
    db,
    trees.map(({ madeBy }) => madeBy),
  ),
  withdrawals: await readWithdrawals(db),
});

export const sourceView = (
  { blob: _blob, layout: _layout, ...view }: StoredSource,
  { makers, withdrawals }: Besides,
): SourceView =>
  SourceView.parse({
    ...view,
    madeBy: makerIn(makers, view.madeBy),
    withdrawn: whyWithdrawn(withdrawals, [['source', view.digest]]),
  });

export const kernelView = (
  { blob: _blob, layout: _layout, ...view }: StoredKernel,
  { makers, withdrawals }: Besides,
): KernelView =>
  KernelView.parse({
    ...view,
    madeBy: makerIn(makers, view.madeBy),
    withdrawn: whyWithdrawn(withdrawals, [['kernel', view.digest]]),
  });

export const toolchainView = (row: Schema['toolchains'], makers: Makers): ToolchainView => ({
  digest: row.digest,
  name: row.name,
  state: row.state,
  problem: row.problem,
  contents: row.contents === null ? null : fromJson(row.contents),
  madeBy: makerIn(makers, row.made_by),
  isRemakeable: row.description !== null,
  createdAt: row.created_at,
  pinnedAt: row.pinned_at,
  retiredAt: row.retired_at,
});

/** The toolchains in some states, newest first. */
export const toolchainsIn = async (
  db: Database,
  ...states: readonly ToolchainState[]
): Promise<ReadyToolchain[]> => {
  const rows = await db
    .selectFrom('toolchains')
    .selectAll()
    .where('state', 'in', states)
    .where('contents', 'is not', null)
    .$narrowType<{ contents: NotNull }>()
    .orderBy('created_at', 'desc')
    .execute();
  return rows.map((row) => ({
    digest: row.digest,
    name: row.name,
    contents: fromJson(row.contents),
  }));
};

/** One build's row with those it refers to. Throws `not-found`. */
export const loadBuild = async (db: Database, id: string) => {
  const build = await db.selectFrom('builds').selectAll().where('id', '=', id).executeTakeFirst();
  if (build === undefined) throw new KilnError('not-found', `there is no build ${id}`);
  const source = await db
    .selectFrom('sources')
    .selectAll()
    .where('digest', '=', build.source)
    .executeTakeFirstOrThrow();
  const kernel = await db
    .selectFrom('kernels')
    .selectAll()
    .where('digest', '=', build.kernel)
    .executeTakeFirstOrThrow();
  const toolchain = await db
    .selectFrom('toolchains')
    .selectAll()
    .where('digest', '=', build.toolchain)
    .executeTakeFirstOrThrow();
  return { build, source: sourceOf(source), kernel: kernelOf(kernel), toolchain };
};
