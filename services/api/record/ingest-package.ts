import type { Digest } from '../../core/digest.ts';
import { KilnError } from '../../core/errors.ts';
import { archiveId } from '../../core/policy/ownership.ts';
import { packagedSources } from '../../core/source/packaged-sources.ts';
import { transact, type Database } from '../../storage/database.ts';
import { recordSource, scanSource, type Voucher } from './ingest.ts';
import { publishPackaged } from './publish.ts';
import { sourceOf, type StoredSource } from './records.ts';
import { useUpload, type UploadDeps } from './uploads.ts';

/** A package of modules' sources, as its archive's verified metadata names it. */
export interface SourcePackage {
  readonly archive: string;
  readonly name: string;
  readonly version: string;
  /** Of its file. */
  readonly digest: Digest;
}

/** An archive as the voucher for what it brings. */
export const archiveVoucher = (archive: string): Voucher => ({
  token: archiveId(archive),
  role: 'admin',
  trust: 'archive',
});

/**
 * Records the sources in a package whose file is a blob: none may be in it. Those that can be none are in `problems`; the package is
 * looked at again as long as there are such. `others`: the names of sources that packages which it depends on have. Throws where the
 * package cannot be read.
 */
export const ingestPackage = async (
  deps: UploadDeps,
  { digest: blob, ...found }: SourcePackage,
  others: readonly string[],
): Promise<{
  readonly sources: readonly StoredSource[];
  readonly problems: readonly KilnError[];
}> => {
  const by = archiveVoucher(found.archive);
  return useUpload(deps, blob, by, async () => {
    const all = packagedSources(await scanSource(deps, blob), others);
    const problems = all.flatMap((each) => ('problem' in each ? [each.problem] : []));
    return transact(deps.db, async (db) => {
      const now = deps.now();
      const sources: StoredSource[] = [];
      for (const each of all)
        if ('source' in each)
          sources.push(await recordSource(db, { ...each, blob, commit: null }, by, now));
      if (problems.length === 0) await notePackage(db, { digest: blob, ...found }, sources, now);
      return { sources, problems };
    });
  });
};

const notePackage = async (
  db: Database,
  found: SourcePackage,
  sources: readonly StoredSource[],
  now: number,
): Promise<void> => {
  await db
    .insertInto('archive_packages')
    .values({ ...found, created_at: now })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  // One that is taken in anew has other sources now.
  await db.deleteFrom('archive_sources').where('package', '=', found.digest).execute();
  for (const { digest: source } of sources)
    await db
      .insertInto('archive_sources')
      .values({ package: found.digest, source })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
};

/** The sources of a package that was taken in before; `null` where it was not. */
export const knownPackage = async (
  db: Database,
  digest: Digest,
): Promise<readonly StoredSource[] | null> => {
  const known = await db
    .selectFrom('archive_packages')
    .select('digest')
    .where('digest', '=', digest)
    .executeTakeFirst();
  if (known === undefined) return null;
  const rows = await db
    .selectFrom('archive_sources')
    .innerJoin('sources', 'sources.digest', 'archive_sources.source')
    .selectAll('sources')
    .where('archive_sources.package', '=', digest)
    .orderBy('sources.name')
    .execute();
  return rows.map(sourceOf);
};

/** Publishes a package's sources under their names; the problem of each that cannot be. */
export const publishPackage = async (
  { db, now }: UploadDeps,
  found: SourcePackage,
  sources: readonly StoredSource[],
): Promise<{
  readonly published: readonly StoredSource[];
  readonly problems: readonly KilnError[];
}> => {
  const published: StoredSource[] = [];
  const problems: KilnError[] = [];
  for (const source of sources) {
    try {
      await transact(db, (transaction) => publishPackaged(transaction, source, found, now()));
      published.push(source);
    } catch (error) {
      if (!(error instanceof KilnError)) throw error;
      problems.push(error);
    }
  }
  return { published, problems };
};
