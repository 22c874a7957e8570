import type { Digest } from '../../core/digest.ts';
import { KilnError } from '../../core/errors.ts';
import type { ToolchainContents } from '../../core/toolchain/measurement.ts';
import {
  differsFromLock,
  parseControl,
  plain,
  type LockedPackage,
  type ToolchainPackages,
} from '../../core/toolchain/toolchain-packages.ts';
import { transact, type Database } from '../../storage/database.ts';
import { readControl } from '../../storage/read-tarball.ts';
import { fromJson, toJson } from '../../storage/json-text.ts';
import { findToolchain, type ToolchainRow } from './toolchains.ts';
import type { Reader } from './readers.ts';
import { dropUpload, mustBeKnown, type UploadDeps } from './uploads.ts';

/** The packages that a toolchain was made of, kept with it: each a blob whose digest is the lock's hash. */

/** Keeps packages that were sent, all of them or none. Throws unless they are exactly those that the toolchain has. */
export const keepPackages = async (
  deps: UploadDeps,
  toolchain: Digest,
  { description, packages }: ToolchainPackages,
  by: Reader,
): Promise<ToolchainRow> => {
  try {
    const contents = measuredContents(await findToolchain(deps.db, toolchain));
    const [difference] = differsFromLock(contents.packages, packages);
    if (difference !== undefined)
      throw new KilnError(
        'conflict',
        `these are not the packages that the toolchain was made of: ${difference}; send just those`,
      );
    for (const each of packages) {
      await mustBeKnown(deps, each.digest, by);
      await mustBe(deps, each, contents);
    }
    await transact(deps.db, async (transaction) => {
      await transaction
        .updateTable('toolchains')
        .set({ description: toJson(description) })
        .where('digest', '=', toolchain)
        .execute();
      await transaction
        .deleteFrom('toolchain_packages')
        .where('toolchain', '=', toolchain)
        .execute();
      for (const { name, version, digest } of packages)
        await transaction
          .insertInto('toolchain_packages')
          .values({ toolchain, name, version, blob: digest })
          .execute();
    });
    return await findToolchain(deps.db, toolchain);
  } finally {
    for (const blob of new Set(packages.map(({ digest }) => digest)))
      await dropUpload(deps, blob, by);
  }
};

const measuredContents = ({ name, state, contents }: ToolchainRow): ToolchainContents => {
  if (contents === null)
    throw new KilnError(
      'conflict',
      `toolchain ${name} is ${state}, so its packages cannot be compared; send them once it is measured`,
    );
  return fromJson(contents);
};

/** Throws unless a sent package's control file names it as the lock and the toolchain do. */
const mustBe = async (
  { blobs }: UploadDeps,
  { name, version, digest }: LockedPackage,
  { packages }: ToolchainContents,
): Promise<void> => {
  const own = parseControl(await readControl(await blobs.open(digest)));
  const isIt = (each: typeof own): boolean =>
    each.name === own.name && each.version === own.version && each.arch === own.arch;
  if (own.name !== plain(name) || own.version !== version || !packages.some(isIt))
    throw new KilnError(
      'conflict',
      `${digest} is ${own.name} ${own.version} for ${own.arch}, not ${name} ${version} as the toolchain has it`,
    );
};

/** The packages that are kept of a toolchain. Throws `not-found`. */
export const keptPackages = async (db: Database, toolchain: Digest): Promise<ToolchainPackages> => {
  const { name, description } = await findToolchain(db, toolchain);
  if (description === null)
    throw new KilnError(
      'not-found',
      `the packages of toolchain ${name} were not kept; kiln toolchain push --packages sends them`,
    );
  const rows = await db
    .selectFrom('toolchain_packages')
    .select(['name', 'version', 'blob'])
    .where('toolchain', '=', toolchain)
    .orderBy('name')
    .execute();
  return {
    description: fromJson(description),
    packages: rows.map((row) => ({
      name: row.name,
      version: row.version,
      digest: row.blob,
    })),
  };
};

/** Throws `not-found` unless a blob is a kept package of a toolchain. */
export const mustBeKept = async (db: Database, toolchain: Digest, blob: Digest): Promise<void> => {
  const row = await db
    .selectFrom('toolchain_packages')
    .select('blob')
    .where('toolchain', '=', toolchain)
    .where('blob', '=', blob)
    .executeTakeFirst();
  if (row === undefined)
    throw new KilnError('not-found', `toolchain ${toolchain} was made of no package ${blob}`);
};
