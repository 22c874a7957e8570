import type { Digest } from '../../core/digest.ts';
import type { FingerprintInputs } from '../../core/build/fingerprint.ts';
import type { Recipe } from '../../core/build/recipe.ts';
import type { Database } from '../../storage/database.ts';
import { fromJson } from '../../storage/json-text.ts';
import type { Schema } from '../../storage/schema.ts';

/** What a builder made of a build: what the signer is to sign, and what its provenance must say. */
export interface BuiltRecord {
  readonly build: string;
  readonly fingerprint: Digest;
  readonly inputs: FingerprintInputs;
  readonly recipe: Recipe;
  /** By name. */
  readonly modules: readonly BuiltModuleRecord[];
}

/** A module as it came out of the sandbox. */
export interface BuiltModuleRecord {
  readonly name: string;
  readonly unsigned: Digest;
}

/** A build's unsigned modules, by name. */
export const builtModules = (db: Database, build: string): Promise<BuiltModuleRecord[]> =>
  db
    .selectFrom('modules')
    .select(['name', 'unsigned'])
    .where('build', '=', build)
    .orderBy('name')
    .execute();

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
    modules: await builtModules(db, id),
  };
};
