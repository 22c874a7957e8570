import type { Digest } from '../../core/digest.ts';
import type { FingerprintInputs } from '../../core/build/fingerprint.ts';
import type { Outcome } from '../../core/jobs/jobs.ts';
import type { Recipe } from '../../core/build/recipe.ts';
import type { Database } from '../../storage/database.ts';
import { fromJson, toJson } from '../../storage/json-text.ts';
import type { Schema } from '../../storage/schema.ts';

/** Artifacts: what builds made. Whoever changes them moves the build's state in the same transaction. */

/** A module as it came out of the sandbox. */
export interface UnsignedModule {
  readonly name: string;
  readonly unsigned: Digest;
}

/** What a builder made of a build: what the signer is to sign, and what its provenance must say. */
export interface BuiltRecord {
  readonly build: string;
  readonly fingerprint: Digest;
  readonly inputs: FingerprintInputs;
  readonly recipe: Recipe;
  /** By name. */
  readonly modules: readonly UnsignedModule[];
}

/** The record of a build that has been built. */
export const builtRecord = async (
  db: Database,
  { id, fingerprint, inputs, recipe }: Schema['builds'],
): Promise<BuiltRecord> => {
  if (recipe === null) throw new Error(`build ${id} has no recipe: it has not been built`);
  return {
    build: id,
    fingerprint,
    inputs: fromJson(inputs),
    recipe: fromJson(recipe),
    modules: await unsignedModules(db, id),
  };
};

/** A build's unsigned modules, by name. */
export const unsignedModules = (db: Database, build: string): Promise<UnsignedModule[]> =>
  db
    .selectFrom('artifacts')
    .select(['name', 'digest as unsigned'])
    .where('build', '=', build)
    .where('kind', '=', 'unsigned')
    .orderBy('name')
    .execute();

/** What a build leaves for those that depend on it, or `null`. */
export const exportsOf = async (db: Database, build: string): Promise<Digest | null> => {
  const row = await db
    .selectFrom('artifacts')
    .select('digest')
    .where('build', '=', build)
    .where('kind', '=', 'exports')
    .executeTakeFirst();
  return row?.digest ?? null;
};

/** Keeps what a builder made, and the files for hosts of its source, in place of all that the build had. */
export const keepBuilt = async (
  db: Database,
  { build, modules, exports, log }: Extract<Outcome, { kind: 'built' }>,
): Promise<void> => {
  await dropSignatures(db, build);
  await db.deleteFrom('artifacts').where('build', '=', build).execute();
  await db.deleteFrom('modules').where('build', '=', build).execute();
  for (const { name, unsigned, size, modinfo } of modules) {
    await db
      .insertInto('modules')
      .values({ build, name, size, modinfo: toJson(modinfo) })
      .execute();
    await keep(db, { build, kind: 'unsigned', name, digest: unsigned });
  }
  const { inputs } = await db
    .selectFrom('builds')
    .select('inputs')
    .where('id', '=', build)
    .executeTakeFirstOrThrow();
  for (const [name, digest] of Object.entries(fromJson(inputs).files ?? {}))
    await keep(db, { build, kind: 'file', name, digest });
  await keep(db, { build, kind: 'exports', digest: exports });
  await keep(db, { build, kind: 'log', digest: log });
};

/** Keeps the log of a build that ended without modules. */
export const keepLog = (db: Database, build: string, digest: Digest): Promise<void> =>
  keep(db, { build, kind: 'log', digest });

/** Forgets the log of a build that begins anew. */
export const dropLog = async (db: Database, build: string): Promise<void> => {
  await db.deleteFrom('artifacts').where('build', '=', build).where('kind', '=', 'log').execute();
};

/** Keeps what the signer made with a key. */
export const keepSigned = async (
  db: Database,
  { build, modules, attestation }: Extract<Outcome, { kind: 'signed' }>,
  { key, hash, now }: { readonly key: string; readonly hash: string; readonly now: number },
): Promise<void> => {
  await db.insertInto('signatures').values({ build, key, hash, created_at: now }).execute();
  for (const { name, signed } of modules)
    await keep(db, { build, kind: 'signed', name, key, digest: signed });
  await keep(db, { build, kind: 'attestation', key, digest: attestation });
};

/** Forgets what was signed of a build that is to be signed anew. */
export const dropSignatures = async (db: Database, build: string): Promise<void> => {
  await db.deleteFrom('signatures').where('build', '=', build).execute();
  await db.deleteFrom('artifacts').where('build', '=', build).where('key', '!=', '').execute();
};

type Kept = Pick<Schema['artifacts'], 'build' | 'kind' | 'digest'> &
  Partial<Pick<Schema['artifacts'], 'name' | 'key'>>;

const keep = async (db: Database, artifact: Kept): Promise<void> => {
  await db
    .insertInto('artifacts')
    .values({ name: '', key: '', ...artifact })
    .execute();
};
