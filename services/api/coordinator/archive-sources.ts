import { createReadStream } from 'node:fs';
import { toDigest } from '../../core/digest.ts';
import { KilnError } from '../../core/errors.ts';
import { modulePackages, type KernelArchive } from '../../core/kernel/archive.ts';
import { findWithdrawn } from '../../core/policy/withdrawal.ts';
import type { SyncView } from '../../core/protocol/archive.ts';
import type { ArchivePackage, PackageArchive } from '../../storage/package-archive.ts';
import {
  archiveVoucher,
  ingestPackage,
  knownPackage,
  publishPackage,
  type SourcePackage,
} from '../record/ingest-package.ts';
import type { StoredSource } from '../record/records.ts';
import { readWithdrawals } from '../record/withdrawn.ts';
import { storeUpload, type UploadDeps } from '../record/uploads.ts';

/** What a sync hears of an archive's sources while they are looked at. */
export interface SourcesReport {
  step(text: string): void;
  source(found: SyncView['sources'][number]): void;
  problem(what: string, error: unknown): void;
}

/** The most packages of an archive whose sources are taken in: Debian has some forty. */
const MOST_PACKAGES = 500;

/**
 * Takes in the sources that an archive has now, each package once; gives those that are published under their names. A problem with one
 * keeps no other back.
 */
export const takeInSources = async (
  deps: UploadDeps & { readonly blobLimit: number },
  archive: Pick<KernelArchive, 'name' | 'modules'>,
  there: PackageArchive,
  report: SourcesReport,
): Promise<readonly StoredSource[]> => {
  if (archive.modules === null) return [];
  const names = modulePackages(archive, await there.names());
  if (names.length > MOST_PACKAGES)
    throw new KilnError(
      'too-large',
      `${names.length} packages are called as --modules says, over the limit of ${MOST_PACKAGES}; narrow the pattern`,
    );
  const taken = new Map<string, readonly StoredSource[]>();
  for (const found of leavesFirst(await there.showAll(names))) {
    try {
      report.step(`looking at ${found.name}`);
      const others = found.depends.flatMap((each) => taken.get(each) ?? []);
      const depends = others.map(({ name }) => name);
      taken.set(found.name, await takeInPackage(deps, archive.name, found, depends, there, report));
    } catch (error) {
      report.problem(found.name, error);
    }
  }
  return [...taken.values()].flat();
};

/** Packages, each behind those of them that it depends on; a ring is cut somewhere. */
const leavesFirst = (packages: readonly ArchivePackage[]): readonly ArchivePackage[] => {
  const all = new Map(packages.map((each) => [each.name, each]));
  const sorted = new Set<ArchivePackage>();
  const begun = new Set<ArchivePackage>();
  const visit = (each: ArchivePackage): void => {
    if (begun.has(each)) return;
    begun.add(each);
    for (const name of each.depends) {
      const other = all.get(name);
      if (other !== undefined) visit(other);
    }
    sorted.add(each);
  };
  packages.forEach(visit);
  return [...sorted];
};

const takeInPackage = async (
  deps: UploadDeps & { readonly blobLimit: number },
  archive: string,
  found: ArchivePackage,
  others: readonly string[],
  there: PackageArchive,
  report: SourcesReport,
): Promise<readonly StoredSource[]> => {
  const { name, version } = found;
  const its: SourcePackage = { archive, name, version, digest: toDigest(found.checksum) };
  const known = await wholeAsKnown(deps, its, others);
  if (known === null) {
    report.step(`taking in ${name}`);
    await there.download([found], ([file = '']) => store(deps, its, file));
  }
  const { sources, problems } =
    known === null ? await ingestPackage(deps, its, others) : { sources: known, problems: [] };
  for (const source of sources)
    report.source({
      package: name,
      digest: source.digest,
      name: source.name,
      version: source.version,
      isNew: known === null,
    });
  const named = await publishPackage(deps, its, sources);
  for (const problem of [...problems, ...named.problems]) report.problem(name, problem);
  return named.published;
};

/**
 * The sources of a package that was taken in before; `null` where it was not, or where a package that it depends on had no source then, and
 * has one now. What is withdrawn stays as it is: it would come back under another digest.
 */
const wholeAsKnown = async (
  { db }: UploadDeps,
  { digest }: SourcePackage,
  others: readonly string[],
): Promise<readonly StoredSource[] | null> => {
  const known = await knownPackage(db, digest);
  const lacks = ({ name, depends }: StoredSource): boolean =>
    others.some((other) => other !== name && !depends.includes(other));
  if (known === null) return null;
  const withdrawals = await readWithdrawals(db);
  const isWithdrawn = known.some(
    (source) => findWithdrawn(withdrawals, [['source', source.digest]]) !== null,
  );
  return known.some(lacks) && !isWithdrawn ? null : known;
};

const store = (
  deps: UploadDeps & { readonly blobLimit: number },
  { archive, digest }: SourcePackage,
  file: string,
): Promise<unknown> =>
  storeUpload(
    deps,
    createReadStream(file),
    { limit: deps.blobLimit, expected: digest },
    archiveVoucher(archive),
  );
