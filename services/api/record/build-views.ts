import type { BuildState } from '../../core/build/build-state.ts';
import type { Digest } from '../../core/digest.ts';
import { KilnError } from '../../core/errors.ts';
import { trustReaches } from '../../core/policy/policy.ts';
import type { BuildView } from '../../core/protocol/build.ts';
import type { PageQuery } from '../../core/protocol/parts.ts';
import type { Database } from '../../storage/database.ts';
import { fromJson } from '../../storage/json-text.ts';
import type { ArtifactKind, Schema } from '../../storage/schema.ts';
import { readPage, type Page } from './pages.ts';
import { readableBuilds, type Reader } from './readers.ts';
import { madeOfRow, readWithdrawals, whyWithdrawn } from './withdrawn.ts';

/** A build as the wire shows it. Throws `not-found`. */
export const buildView = async (db: Database, id: string): Promise<BuildView> => {
  const [view] = await buildViews(db, [id]);
  if (view === undefined) throw new KilnError('not-found', `there is no build ${id}`);
  return view;
};

/** Builds as the wire shows them, in the order of the ids, without those that are not here: as many statements for many as for one. */
export const buildViews = async (
  db: Database,
  ids: readonly string[],
): Promise<readonly BuildView[]> => {
  if (ids.length === 0) return [];
  const rows = await buildRows(db, ids);
  const besides = await loadBesides(db, ids, rows);
  const views = new Map(rows.map((row) => [row.id, viewOf(row, besides)]));
  return ids.flatMap((id) => views.get(id) ?? []);
};

/** Which builds are listed. */
export interface BuildsWanted extends PageQuery {
  readonly state?: BuildState | undefined;
  readonly toolchain?: Digest | undefined;
}

/** Builds that a reader may read, the latest first. */
export const listBuilds = async (
  db: Database,
  reader: Reader,
  { state, toolchain, ...wanted }: BuildsWanted,
): Promise<Page<BuildView>> => {
  let found = db
    .selectFrom('builds')
    .select(['id', 'created_at'])
    .where('id', 'in', readableBuilds(db, reader));
  if (state !== undefined) found = found.where('state', '=', state);
  if (toolchain !== undefined) found = found.where('toolchain', '=', toolchain);
  const order = { table: 'builds', columns: ['created_at', 'id'], direction: 'desc' } as const;
  const { items, next } = await readPage(found, order, wanted);
  const ids = items.map(({ id }) => id);
  return { items: await buildViews(db, ids), next };
};

type BuildRow = Awaited<ReturnType<typeof buildRows>>[number];
type Besides = Awaited<ReturnType<typeof loadBesides>>;

/** The builds' rows, with what is shown of the records that they name. */
const buildRows = (db: Database, ids: readonly string[]) =>
  db
    .selectFrom('builds')
    .innerJoin('sources', 'sources.digest', 'builds.source')
    .innerJoin('kernels', 'kernels.digest', 'builds.kernel')
    .innerJoin('toolchains', 'toolchains.digest', 'builds.toolchain')
    .leftJoin('tokens', 'tokens.id', 'builds.made_by')
    .selectAll('builds')
    .select([
      'sources.name as source_name',
      'sources.version as source_version',
      'kernels.release as kernel_release',
      'kernels.arch as kernel_arch',
      'kernels.record as kernel_record',
      'kernels.trust as kernel_trust',
      'kernels.created_at as kernel_created_at',
      'toolchains.name as toolchain_name',
      'tokens.name as maker_name',
    ])
    .where('builds.id', 'in', ids)
    .execute();

/** What else is shown of them: what they made and are built against, newer headers of their kernels, and what was withdrawn. */
const loadBesides = async (
  db: Database,
  ids: readonly string[],
  rows: readonly Pick<BuildRow, 'kernel_release'>[],
) => {
  const releases = [...new Set(rows.map(({ kernel_release }) => kernel_release))];
  const modules = db
    .selectFrom('modules')
    .innerJoin('artifacts', (join) =>
      join
        .onRef('artifacts.build', '=', 'modules.build')
        .onRef('artifacts.name', '=', 'modules.name')
        .on('artifacts.kind', '=', 'unsigned'),
    )
    .selectAll('modules')
    .select('artifacts.digest as unsigned')
    .where('modules.build', 'in', ids)
    .orderBy('modules.name');
  const artifacts = db.selectFrom('artifacts').selectAll().where('build', 'in', ids);
  const signatures = db
    .selectFrom('signatures')
    .selectAll()
    .where('build', 'in', ids)
    .orderBy('created_at', 'desc');
  const needs = db.selectFrom('dependencies').selectAll().where('build', 'in', ids);
  const kernels = db
    .selectFrom('kernels')
    .select(['digest', 'release', 'arch', 'trust', 'created_at'])
    .where('release', 'in', releases);
  return {
    modules: byBuild(await modules.execute()),
    artifacts: byBuild(await artifacts.execute()),
    signatures: byBuild(await signatures.execute()),
    needs: byBuild(await needs.execute()),
    kernels: await kernels.execute(),
    withdrawals: await readWithdrawals(db),
  };
};

const byBuild = <Row extends { readonly build: string }>(
  rows: readonly Row[],
): ((build: string) => readonly Row[]) => {
  const grouped = Map.groupBy(rows, ({ build }) => build);
  return (build) => grouped.get(build) ?? [];
};

const viewOf = (row: BuildRow, besides: Besides): BuildView => {
  const { id } = row;
  const { compiler, vermagic } = fromJson(row.kernel_record);
  const artifacts = besides.artifacts(id);
  const [signature] = besides.signatures(id);
  const key = signature?.key ?? '';
  const find = (kind: ArtifactKind, name = '', by = ''): Digest | null =>
    artifacts.find((each) => each.kind === kind && each.name === name && each.key === by)?.digest ??
    null;
  return {
    id,
    fingerprint: row.fingerprint,
    state: row.state,
    attempt: row.attempt,
    source: { digest: row.source, name: row.source_name, version: row.source_version },
    kernel: {
      digest: row.kernel,
      release: row.kernel_release,
      arch: row.kernel_arch,
      compiler,
      vermagic,
    },
    toolchain: { digest: row.toolchain, name: row.toolchain_name },
    inputs: { ...fromJson(row.inputs) },
    recipe: row.recipe === null ? null : { ...fromJson(row.recipe) },
    modules: besides.modules(id).map(({ name, unsigned, size, modinfo }) => ({
      name,
      unsigned,
      signed: find('signed', name, key),
      size,
      modinfo: fromJson(modinfo),
    })),
    signature: signatureView(row, signature),
    dependencies: besides.needs(id).map(({ needs }) => needs),
    exclusion: row.exclusion,
    stale: isSuperseded(row, besides.kernels) ? 'headers' : null,
    failure: row.failure === null ? null : fromJson(row.failure),
    log: find('log'),
    attestation: find('attestation', '', key),
    timings: row.timings === null ? null : fromJson(row.timings),
    madeBy: { id: row.made_by, name: row.maker_name ?? row.made_by },
    withdrawn: whyWithdrawn(besides.withdrawals, madeOfRow(row, signature?.key ?? null)),
    createdAt: row.created_at,
    startedAt: row.started_at,
    finishedAt: row.finished_at,
  };
};

const signatureView = (
  { unsigned_because: reason }: BuildRow,
  signature: Schema['signatures'] | undefined,
): BuildView['signature'] => {
  if (signature !== undefined) return { kind: 'signed', key: signature.key, hash: signature.hash };
  return reason === null ? null : { kind: 'unsigned', reason };
};

/** Whether newer headers of the same release, which somebody vouches for as much, have come since. */
const isSuperseded = (row: BuildRow, kernels: Besides['kernels']): boolean => {
  const needed = trustReaches(row.kernel_trust, 'archive') ? 'archive' : row.kernel_trust;
  return kernels.some(
    (other) =>
      other.release === row.kernel_release &&
      other.arch === row.kernel_arch &&
      other.created_at > row.kernel_created_at &&
      other.digest !== row.kernel &&
      trustReaches(other.trust, needed),
  );
};
