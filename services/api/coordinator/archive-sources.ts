import { createReadStream } from 'node:fs';
import { toDigest } from '../../core/digest.ts';
import { KilnError } from '../../core/errors.ts';
import { modulePackages, type KernelArchive } from '../../core/kernel/archive.ts';
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
  const all: StoredSource[] = [];
  for (const found of await there.showAll(names)) {
    try {
      report.step(`looking at ${found.name}`);
      all.push(...(await takeInPackage(deps, archive.name, found, there, report)));
    } catch (error) {
      report.problem(found.name, error);
    }
  }
  return all;
};

const takeInPackage = async (
  deps: UploadDeps & { readonly blobLimit: number },
  archive: string,
  found: ArchivePackage,
  there: PackageArchive,
  report: SourcesReport,
): Promise<readonly StoredSource[]> => {
  const { name, version } = found;
  const its: SourcePackage = { archive, name, version, digest: toDigest(found.checksum) };
  const known = await knownPackage(deps.db, its.digest);
  if (known === null) {
    report.step(`taking in ${name}`);
    await there.download([found], ([file = '']) => store(deps, its, file));
  }
  const { sources, problems } =
    known === null ? await ingestPackage(deps, its) : { sources: known, problems: [] };
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
