import { compareSources } from '../../core/source/source-version.ts';
import { OWN_SUITE } from '../../core/repository/repository.ts';
import {
  flavourOf,
  rpmDistribution,
  rpmFlavourOf,
  versionOrder,
} from '../../core/packages/names.ts';
import type { RepositoryFormat } from '../../core/packages/plan.ts';
import { findWithdrawn } from '../../core/policy/withdrawal.ts';
import type { Digest } from '../../core/digest.ts';
import type { Database } from '../../storage/database.ts';
import { kernelOf, type StoredKernel } from '../record/records.ts';
import { madeOfRow, readWithdrawals } from '../record/withdrawn.ts';

/** Which builds of a source are published: for each kernel the newest. */

/** A build whose packages are to be in repositories. */
export interface PublishedBuild {
  readonly id: string;
  readonly source: { readonly name: string; readonly version: string };
  readonly kernel: StoredKernel;
  /** The suites of its kernel: the archives that have it. */
  readonly suites: readonly string[];
}

/** Releases of one flavour that stay published: those before are hardly run any more. */
const KEPT_RELEASES = 6;

/** Builds of a source whose modules the key has signed, and nobody has withdrawn: the newest of each of the newest kernels. */
export const publishedBuilds = async (
  db: Database,
  name: string,
  key: string,
  format: RepositoryFormat,
): Promise<readonly PublishedBuild[]> => {
  const rows = await db
    .selectFrom('builds')
    .innerJoin('sources', 'sources.digest', 'builds.source')
    // What has the name by its owner's word: an archive's packages may have sources of a token's name, for their own hosts.
    .innerJoin('source_names', (join) =>
      join
        .onRef('source_names.source', '=', 'sources.digest')
        .onRef('source_names.name', '=', 'sources.name')
        .onRef('source_names.version', '=', 'sources.version'),
    )
    .innerJoin('signatures', 'signatures.build', 'builds.id')
    .select(['builds.id', 'builds.inputs', 'builds.fingerprint', 'builds.kernel'])
    .select(['builds.created_at', 'sources.version', 'sources.tree'])
    .where('sources.name', '=', name)
    .where('builds.state', '=', 'succeeded')
    .where('builds.is_tailored', '=', 0)
    .where('signatures.key', '=', key)
    .execute();
  const withdrawals = await readWithdrawals(db);
  const given = rows.filter((row) => findWithdrawn(withdrawals, madeOfRow(row, key)) === null);
  const kernels = await kernelsOf(db, [...new Set(given.map(({ kernel }) => kernel))]);
  const suites = await suitesOf(db, [...kernels.keys()]);
  const newest = new Map<string, (typeof given)[number]>();
  for (const row of given) {
    const kernel = kernels.get(row.kernel);
    if (kernel === undefined) continue;
    for (const suite of suites(row.kernel)) {
      const place = `${suite} ${kernel.release} ${kernel.arch}`;
      const before = newest.get(place);
      if (before === undefined || isNewer(row, before, kernels)) newest.set(place, row);
    }
  }
  const builds = [...new Set(newest.values())].flatMap((row) => {
    const kernel = kernels.get(row.kernel);
    if (kernel === undefined) return [];
    const its = suites(row.kernel).filter(
      (suite) => newest.get(`${suite} ${kernel.release} ${kernel.arch}`) === row,
    );
    return { id: row.id, source: { name, version: row.version }, kernel, suites: its };
  });
  return newestReleases(builds, format);
};

/** The newer source counts first, then the newer headers, then the later build. */
const isNewer = (
  one: { version: string; tree: Digest; kernel: Digest; created_at: number },
  other: { version: string; tree: Digest; kernel: Digest; created_at: number },
  kernels: ReadonlyMap<Digest, StoredKernel>,
): boolean => {
  const headers = (row: { kernel: Digest }): number => kernels.get(row.kernel)?.createdAt ?? 0;
  const order =
    compareSources(one, other) ||
    headers(one) - headers(other) ||
    one.created_at - other.created_at;
  return order > 0;
};

const newestReleases = (
  builds: readonly PublishedBuild[],
  format: RepositoryFormat,
): readonly PublishedBuild[] => {
  const order = versionOrder(format);
  const byFlavour = Map.groupBy(
    builds,
    ({ kernel: { release, arch }, suites }) =>
      `${suites.join()} ${arch} ${flavourOf(release)} ${rpmFlavourOf(release)} ${rpmDistribution(release)}`,
  );
  return [...byFlavour.values()].flatMap((group) =>
    group
      .toSorted((one, other) => order(other.kernel.release, one.kernel.release))
      .slice(0, KEPT_RELEASES),
  );
};

const kernelsOf = async (
  db: Database,
  digests: readonly Digest[],
): Promise<ReadonlyMap<Digest, StoredKernel>> => {
  if (digests.length === 0) return new Map();
  const rows = await db.selectFrom('kernels').selectAll().where('digest', 'in', digests).execute();
  return new Map(rows.map((row) => [row.digest, kernelOf(row)]));
};

const suitesOf = async (
  db: Database,
  kernels: readonly Digest[],
): Promise<(kernel: Digest) => readonly string[]> => {
  const rows =
    kernels.length === 0
      ? []
      : await db
          .selectFrom('archive_kernels')
          .select(['archive', 'kernel'])
          .distinct()
          .where('kernel', 'in', kernels)
          .orderBy('archive')
          .execute();
  const grouped = Map.groupBy(rows, ({ kernel }) => kernel);
  return (kernel) => grouped.get(kernel)?.map(({ archive }) => archive) ?? [OWN_SUITE];
};
