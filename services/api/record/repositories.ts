import type { Digest } from '../../core/digest.ts';
import type { RepositoryFormat } from '../../core/packages/plan.ts';
import type { Channel, IndexFile, RepositoryName } from '../../core/repository/repository.ts';
import type { Database } from '../../storage/database.ts';
import { fromJson, toJson } from '../../storage/json-text.ts';
import type { Schema } from '../../storage/schema.ts';
import type { PackageRow } from './packages.ts';

/** Repositories in SQL: whose packages are published, what is in each channel, and the index that was signed last. */

/** A source whose packages are published. */
export interface Publication {
  readonly source: string;
  readonly formats: readonly RepositoryFormat[];
  /** Where what is new goes: to all, or to those who try it first. */
  readonly channel: Channel;
  /** Nothing new is published for now. */
  readonly isHeld: boolean;
  /** Why not all of it is there. */
  readonly problem: string | null;
  readonly madeBy: string;
  readonly createdAt: number;
}

export const readPublications = async (db: Database): Promise<readonly Publication[]> => {
  const rows = await db.selectFrom('publications').selectAll().orderBy('source').execute();
  return rows.map(({ source, formats, channel, is_held, problem, made_by, created_at }) => ({
    source,
    formats: fromJson(formats),
    channel,
    isHeld: is_held === 1,
    problem,
    madeBy: made_by,
    createdAt: created_at,
  }));
};

/** Notes why not all of a source's packages are published; `null` where they are. */
export const noteProblem = async (
  db: Database,
  source: string,
  problem: string | null,
): Promise<void> => {
  await db.updateTable('publications').set({ problem }).where('source', '=', source).execute();
};

/** Notes that a source is published, in the place of what was said of it before. */
export const notePublication = async (
  db: Database,
  { source, formats, channel, isHeld, madeBy, createdAt }: Omit<Publication, 'problem'>,
): Promise<void> => {
  const change = { formats: toJson(formats), channel, is_held: isHeld ? 1 : 0 } as const;
  await db
    .insertInto('publications')
    .values({ source, ...change, problem: null, made_by: madeBy, created_at: createdAt })
    .onConflict((conflict) => conflict.column('source').doUpdateSet(change))
    .execute();
};

const inRepository = ({ format, suite, channel }: RepositoryName) => ({ format, suite, channel });

/** The packages of one repository. */
export const packagesIn = (db: Database, of: RepositoryName): Promise<PackageRow[]> =>
  db
    .selectFrom('channel_packages')
    .innerJoin('packages', 'packages.id', 'channel_packages.package')
    .selectAll('packages')
    .where('channel_packages.format', '=', of.format)
    .where('channel_packages.suite', '=', of.suite)
    .where('channel_packages.channel', '=', of.channel)
    .orderBy('packages.name')
    .orderBy('packages.id')
    .execute();

/** Puts packages into a repository in the place of those that are there. */
export const replacePackages = async (
  db: Database,
  of: RepositoryName,
  packages: Iterable<string>,
  now: number,
): Promise<void> => {
  const wanted = new Set(packages);
  const there = new Set((await packagesIn(db, of)).map(({ id }) => id));
  for (const id of there)
    if (!wanted.has(id))
      await db
        .deleteFrom('channel_packages')
        .where('format', '=', of.format)
        .where('suite', '=', of.suite)
        .where('channel', '=', of.channel)
        .where('package', '=', id)
        .execute();
  for (const id of wanted) {
    if (there.has(id)) continue;
    // Its bytes may have gone since somebody looked.
    const row = await db
      .selectFrom('packages')
      .select('state')
      .where('id', '=', id)
      .executeTakeFirst();
    if (row?.state === 'made')
      await db
        .insertInto('channel_packages')
        .values({ ...inRepository(of), package: id, since: now })
        .execute();
  }
};

/** The bytes of a package's file that some repository has. */
export const findPublishedFile = async (
  db: Database,
  format: RepositoryFormat,
  file: string,
): Promise<Digest | null> => {
  const row = await db
    .selectFrom('packages')
    .innerJoin('channel_packages', 'channel_packages.package', 'packages.id')
    .select('packages.digest')
    .where('packages.format', '=', format)
    .where('packages.file', '=', file)
    .executeTakeFirst();
  return row?.digest ?? null;
};

export type RepositoryRow = Schema['repositories'];

/** All repositories that there are, or are to be. */
export const readRepositories = (db: Database): Promise<RepositoryRow[]> =>
  db
    .selectFrom('repositories')
    .selectAll()
    .orderBy('format')
    .orderBy('suite')
    .orderBy('channel')
    .execute();

export const findRepository = (
  db: Database,
  { format, suite, channel }: RepositoryName,
): Promise<RepositoryRow | undefined> =>
  db
    .selectFrom('repositories')
    .selectAll()
    .where('format', '=', format)
    .where('suite', '=', suite)
    .where('channel', '=', channel)
    .executeTakeFirst();

/** An index that is asked of the signer. */
export interface AskedIndex {
  readonly content: Digest;
  readonly madeAt: number;
  readonly validUntil: number;
}

/** Notes that an index is asked for, and gives its generation. */
export const askIndex = async (
  db: Database,
  of: RepositoryName,
  { content, madeAt, validUntil }: AskedIndex,
): Promise<number> => {
  const before = await findRepository(db, of);
  const asked = {
    generation: (before?.generation ?? 0) + 1,
    content,
    // apt asks whether it has changed since this second.
    made_at: Math.max(madeAt, (before?.made_at ?? 0) + 1000),
    valid_until: validUntil,
    problem: null,
  };
  await db
    .insertInto('repositories')
    .values({
      ...inRepository(of),
      ...asked,
      current: null,
      served_made_at: null,
      served_until: null,
    })
    .onConflict((conflict) => conflict.columns(['format', 'suite', 'channel']).doUpdateSet(asked))
    .execute();
  return asked.generation;
};

/** Generations of an index whose files are still served: a package manager may be between two of them. */
const KEPT_GENERATIONS = 30;

/** Puts a signed index in the place of the one before; false if a newer one is there. */
export const keepIndex = async (
  db: Database,
  of: RepositoryName,
  generation: number,
  files: readonly IndexFile[],
): Promise<boolean> => {
  const { numUpdatedRows } = await db
    .updateTable('repositories')
    .set(({ ref }) => ({
      current: generation,
      served_made_at: ref('made_at'),
      served_until: ref('valid_until'),
      problem: null,
    }))
    .where('format', '=', of.format)
    .where('suite', '=', of.suite)
    .where('channel', '=', of.channel)
    .where('generation', '=', generation)
    .executeTakeFirst();
  if (numUpdatedRows === 0n) return false;
  for (const file of files)
    await db
      .insertInto('index_files')
      .values({ ...inRepository(of), generation, ...file })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
  await db
    .deleteFrom('index_files')
    .where('format', '=', of.format)
    .where('suite', '=', of.suite)
    .where('channel', '=', of.channel)
    .where('generation', '<=', generation - KEPT_GENERATIONS)
    .execute();
  return true;
};

/** Notes why an index was not signed. */
export const noteUnsigned = async (
  db: Database,
  of: RepositoryName,
  generation: number,
  problem: string,
): Promise<void> => {
  await db
    .updateTable('repositories')
    .set({ problem })
    .where('format', '=', of.format)
    .where('suite', '=', of.suite)
    .where('channel', '=', of.channel)
    .where('generation', '=', generation)
    .execute();
};

/** A file of the index that was signed last, by its path; or of one of the latest ones, by its digest */
export const findIndexFile = async (
  db: Database,
  of: RepositoryName,
  wanted: { readonly path: string } | { readonly digest: Digest },
): Promise<{ readonly digest: Digest; readonly madeAt: number } | undefined> => {
  const row = await findRepository(db, of);
  if (row === undefined || row.current === null || row.served_made_at === null) return undefined;
  let found = db
    .selectFrom('index_files')
    .select('digest')
    .where('format', '=', of.format)
    .where('suite', '=', of.suite)
    .where('channel', '=', of.channel);
  found =
    'path' in wanted
      ? found.where('path', '=', wanted.path).where('generation', '=', row.current)
      : found.where('digest', '=', wanted.digest);
  const file = await found.executeTakeFirst();
  return file === undefined ? undefined : { ...file, madeAt: row.served_made_at };
};
