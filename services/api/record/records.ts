import { KilnError } from '../../core/errors.ts';
import type { Digest } from '../../core/digest.ts';
import type { TreeOrigin } from '../../core/jobs/jobs.ts';
import type { Kernel } from '../../core/kernel/kernel.ts';
import { trustReaches, type Trust } from '../../core/policy/policy.ts';
import { KernelView } from '../../core/protocol/kernel.ts';
import { SourceView } from '../../core/protocol/source.ts';
import { type BuildView, type ModuleView } from '../../core/protocol/build.ts';
import { type ToolchainView } from '../../core/protocol/toolchain.ts';
import type { Source } from '../../core/source/source.ts';
import type { ToolchainContents } from '../../core/toolchain/measurement.ts';
import type { ReadyToolchain, ToolchainState } from '../../core/toolchain/toolchain.ts';
import { findWithdrawn, sayWithdrawn } from '../../core/policy/withdrawal.ts';
import type { Database } from '../../storage/database.ts';
import type { Schema } from '../../storage/schema.ts';
import { findMaker, makerIn, type Makers } from './makers.ts';
import { madeOfRow, readWithdrawals } from './withdrawn.ts';

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

const origin = (row: { blob: string; layout: string }): TreeOrigin => ({
  blob: row.blob as Digest,
  layout: JSON.parse(row.layout) as TreeOrigin['layout'],
});

/** What a source's row keeps as JSON. */
export type SourceFacts = Pick<
  Source,
  'autoinstall' | 'depends' | 'needs' | 'hasRust' | 'settings'
>;

export const sourceOf = (row: Schema['sources']): StoredSource => ({
  digest: row.digest as Digest,
  tree: row.tree as Digest,
  name: row.name,
  version: row.version,
  kind: row.kind as Source['kind'],
  ...(JSON.parse(row.claims) as SourceFacts),
  commit: row.commit_id,
  ...origin(row),
  trust: row.trust as Trust,
  madeBy: row.made_by,
  createdAt: row.created_at,
});

export const kernelOf = (row: Schema['kernels']): Stored<Kernel> => ({
  ...(JSON.parse(row.record) as Kernel),
  ...origin(row),
  trust: row.trust as Trust,
  madeBy: row.made_by,
  createdAt: row.created_at,
});

export const sourceView = (
  { blob: _blob, layout: _layout, ...view }: StoredSource,
  makers: Makers,
): SourceView => SourceView.parse({ ...view, madeBy: makerIn(makers, view.madeBy) });
export const kernelView = (
  { blob: _blob, layout: _layout, ...view }: Stored<Kernel>,
  makers: Makers,
): KernelView => KernelView.parse({ ...view, madeBy: makerIn(makers, view.madeBy) });

export const toolchainView = (row: Schema['toolchains'], makers: Makers): ToolchainView => ({
  digest: row.digest as Digest,
  name: row.name,
  state: row.state as ToolchainView['state'],
  problem: row.problem,
  contents:
    row.contents === null
      ? null
      : (JSON.parse(row.contents) as NonNullable<ToolchainView['contents']>),
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
    .orderBy('created_at', 'desc')
    .execute();
  return rows.map((row) => ({
    digest: row.digest as Digest,
    name: row.name,
    contents: JSON.parse(row.contents ?? '{}') as ToolchainContents,
  }));
};

/** One build's row with those it refers to. Throws `not-found`. */
export const loadBuild = async (db: Database, id: string) => {
  const build = await db.selectFrom('builds').selectAll().where('id', '=', id).executeTakeFirst();
  if (build === undefined) throw new KilnError('not-found', `there is no build ${id}`);
  const [source, kernel, toolchain] = await Promise.all([
    db
      .selectFrom('sources')
      .selectAll()
      .where('digest', '=', build.source)
      .executeTakeFirstOrThrow(),
    db
      .selectFrom('kernels')
      .selectAll()
      .where('digest', '=', build.kernel)
      .executeTakeFirstOrThrow(),
    db
      .selectFrom('toolchains')
      .selectAll()
      .where('digest', '=', build.toolchain)
      .executeTakeFirstOrThrow(),
  ]);
  return { build, source: sourceOf(source), kernel: kernelOf(kernel), toolchain };
};

const json = <T>(text: string | null): T | null => (text === null ? null : (JSON.parse(text) as T));

/** A build as the wire shows it. Throws `not-found`. */
export const buildView = async (db: Database, id: string): Promise<BuildView> => {
  const { build, source, kernel, toolchain } = await loadBuild(db, id);
  const modules = await db
    .selectFrom('modules')
    .selectAll()
    .where('build', '=', id)
    .orderBy('name')
    .execute();
  const dependencies = await db
    .selectFrom('dependencies')
    .select('needs')
    .where('build', '=', id)
    .execute();
  return {
    id: build.id,
    fingerprint: build.fingerprint as Digest,
    state: build.state as BuildView['state'],
    attempt: build.attempt,
    source: { digest: source.digest, name: source.name, version: source.version },
    kernel: {
      digest: kernel.digest,
      release: kernel.release,
      arch: kernel.arch,
      compiler: kernel.compiler,
      vermagic: kernel.vermagic,
    },
    toolchain: { digest: toolchain.digest as Digest, name: toolchain.name },
    inputs: JSON.parse(build.inputs) as BuildView['inputs'],
    recipe: json(build.recipe),
    modules: modules.map(moduleView),
    signature: json(build.signature),
    dependencies: dependencies.map(({ needs }) => needs),
    exclusion: build.exclusion,
    stale: (await isSuperseded(db, kernel)) ? 'headers' : null,
    failure: json(build.failure),
    log: build.log as Digest | null,
    attestation: build.attestation as Digest | null,
    timings: json(build.timings),
    madeBy: await findMaker(db, build.made_by),
    withdrawn: await whyWithdrawn(db, build),
    createdAt: build.created_at,
    startedAt: build.started_at,
    finishedAt: build.finished_at,
  };
};

/** Why hosts are not given a build any more, in words, or `null`. */
const whyWithdrawn = async (db: Database, build: Schema['builds']): Promise<string | null> => {
  const found = findWithdrawn(await readWithdrawals(db), madeOfRow(build));
  return found === null ? null : sayWithdrawn(found);
};

/** Whether newer headers of the same release, which somebody vouches for as much, have come since. */
export const isSuperseded = async (db: Database, kernel: StoredKernel): Promise<boolean> => {
  const others = await db
    .selectFrom('kernels')
    .select(['trust'])
    .where('release', '=', kernel.release)
    .where('arch', '=', kernel.arch)
    .where('created_at', '>', kernel.createdAt)
    .where('digest', '!=', kernel.digest)
    .execute();
  const needed = trustReaches(kernel.trust, 'archive') ? 'archive' : kernel.trust;
  return others.some(({ trust }) => trustReaches(trust as Trust, needed));
};

const moduleView = (row: Schema['modules']): ModuleView => ({
  name: row.name,
  unsigned: row.unsigned as Digest,
  signed: row.signed as Digest | null,
  size: row.size,
  modinfo: JSON.parse(row.modinfo) as ModuleView['modinfo'],
});
