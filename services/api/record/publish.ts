import type { Digest } from '../../core/digest.ts';
import { KilnError } from '../../core/errors.ts';
import { archiveId, archiveOf } from '../../core/policy/ownership.ts';
import type { Source } from '../../core/source/source.ts';
import { compareVersions } from '../../core/source/source-version.ts';
import type { Database } from '../../storage/database.ts';
import type { Schema } from '../../storage/schema.ts';
import { takeName } from './owners.ts';

/** What a source's name and version mean: the bytes that were published under them. */

type Named = Pick<Source, 'digest' | 'name' | 'version'>;

/** Publishes what a token pushed. A name and version then mean those bytes for good. Throws `forbidden`, or `conflict` for other bytes. */
export const publishPushed = async (
  db: Database,
  source: Named,
  token: string,
  now: number,
): Promise<void> => {
  await takeName(db, now, source.name, token);
  const taken = await findTaken(db, source);
  if (taken?.source === source.digest) return;
  if (taken !== undefined) throw isTaken(source, 'give what changed a new version');
  await insertName(db, source, token, now);
};

/** A package of an archive, in a version. */
export interface PackageVersion {
  readonly archive: string;
  readonly version: string;
}

/**
 * Publishes what a package of an archive has. A distribution changes a source without giving it a new version of its own, only its
 * package one: a name and version that archives brought mean the bytes of the newest package that has them. Throws `forbidden` where
 * the name is a token's, or `conflict` where a token has published other bytes under it.
 */
export const publishPackaged = async (
  db: Database,
  source: Named,
  { archive, version }: PackageVersion,
  now: number,
): Promise<void> => {
  const taken = await findTaken(db, source);
  if (taken?.source === source.digest) return;
  const made_by = archiveId(archive);
  await takeName(db, now, source.name, made_by);
  if (taken === undefined) {
    await insertName(db, source, made_by, now);
    return;
  }
  if (archiveOf(taken.made_by) === null)
    throw isTaken(
      source,
      'hosts that have the package get its modules, others by that name what was pushed',
    );
  const others = await packageVersions(db, taken.source);
  if (others.some((other) => compareVersions(other, version) >= 0)) return;
  await db
    .updateTable('source_names')
    .set({ source: source.digest, made_by, created_at: now })
    .where('name', '=', source.name)
    .where('version', '=', source.version)
    .execute();
};

const findTaken = (
  db: Database,
  { name, version }: Named,
): Promise<Schema['source_names'] | undefined> =>
  db
    .selectFrom('source_names')
    .selectAll()
    .where('name', '=', name)
    .where('version', '=', version)
    .executeTakeFirst();

const insertName = async (
  db: Database,
  { name, version, digest }: Named,
  made_by: string,
  now: number,
): Promise<void> => {
  await db
    .insertInto('source_names')
    .values({ name, version, source: digest, made_by, created_at: now })
    .execute();
};

const isTaken = ({ name, version }: Named, next: string): KilnError =>
  new KilnError('conflict', `${name}/${version} was pushed before with other content; ${next}`);

/** The versions of the packages that have a source. */
const packageVersions = async (db: Database, source: Digest): Promise<readonly string[]> => {
  const rows = await db
    .selectFrom('archive_sources')
    .innerJoin('archive_packages', 'archive_packages.digest', 'archive_sources.package')
    .select('archive_packages.version')
    .where('archive_sources.source', '=', source)
    .execute();
  return rows.map(({ version }) => version);
};
