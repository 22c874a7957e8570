import type { z } from 'zod';
import type { Digest } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import type { Kernel } from '../core/kernel.ts';
import type { CreateBuild } from '../core/protocol.ts';
import type { Source } from '../core/source.ts';
import { chooseToolchain } from '../core/toolchain.ts';
import type { Database } from '../storage/database.ts';
import { kernelOf, readyToolchains, sourceOf, type Stored } from './records.ts';

/** A request for a build, checked. */
export type BuildRequest = z.output<typeof CreateBuild>;

/** What a request names, found. */
export interface ResolvedBuild {
  readonly source: Stored<Source>;
  readonly kernel: Stored<Kernel>;
  readonly toolchain: Digest;
}

/** Finds source, kernel and toolchain. Throws `not-found`, `conflict` or `no-toolchain`, saying how to supply what is missing. */
export const resolveBuild = async (db: Database, request: BuildRequest): Promise<ResolvedBuild> => {
  const source = await findSource(db, request.source);
  const kernel = await findKernel(db, request.kernel);
  return { source, kernel, toolchain: await findToolchain(db, request.toolchain, kernel) };
};

const findSource = async (
  db: Database,
  wanted: BuildRequest['source'],
): Promise<Stored<Source>> => {
  if ('digest' in wanted) {
    const row = await db
      .selectFrom('sources')
      .selectAll()
      .where('digest', '=', wanted.digest)
      .executeTakeFirst();
    if (row === undefined)
      throw new KilnError('not-found', `there is no source ${wanted.digest}; push it first`);
    return sourceOf(row);
  }
  let named = db
    .selectFrom('source_names')
    .innerJoin('sources', 'sources.digest', 'source_names.source')
    .selectAll('sources')
    .where('source_names.name', '=', wanted.name);
  if (wanted.version !== undefined)
    named = named.where('source_names.version', '=', wanted.version);
  const row = await named.orderBy('source_names.created_at', 'desc').executeTakeFirst();
  if (row === undefined) {
    const name = wanted.version === undefined ? wanted.name : `${wanted.name}/${wanted.version}`;
    throw new KilnError(
      'not-found',
      `there is no source ${name} here; ci or an admin adds it with kiln source push`,
    );
  }
  return sourceOf(row);
};

const findKernel = async (
  db: Database,
  wanted: BuildRequest['kernel'],
): Promise<Stored<Kernel>> => {
  if ('digest' in wanted) {
    const row = await db
      .selectFrom('kernels')
      .selectAll()
      .where('digest', '=', wanted.digest)
      .executeTakeFirst();
    if (row === undefined)
      throw new KilnError(
        'not-found',
        `there is no kernel ${wanted.digest}; push its headers first`,
      );
    return kernelOf(row);
  }
  const rows = await db
    .selectFrom('kernels')
    .selectAll()
    .where('release', '=', wanted.release)
    .execute();
  // What clients pushed answers for a release only while no admin has vouched for one.
  const vouched = rows.filter(({ trust }) => trust === 'admin');
  const candidates = (vouched.length > 0 ? vouched : rows).map(kernelOf);
  const [only, ...others] = candidates;
  if (only === undefined) {
    throw new KilnError(
      'not-found',
      `no headers of kernel ${wanted.release} are here; send them with kiln kernel push`,
    );
  }
  if (others.length > 0) {
    const names = candidates
      .map(({ digest, build }) => `${digest} (${build ?? 'no build string'})`)
      .join(', ');
    throw new KilnError(
      'conflict',
      `${candidates.length} kernels are called ${wanted.release}: ${names}; name one by digest (--kernel)`,
    );
  }
  return only;
};

const findToolchain = async (
  db: Database,
  wanted: Digest | undefined,
  kernel: Kernel,
): Promise<Digest> => {
  const ready = await readyToolchains(db);
  if (wanted === undefined) return chooseToolchain(ready, kernel).digest;
  const chosen = ready.find(({ digest }) => digest === wanted);
  if (chosen === undefined) {
    const names = ready.map(({ name, digest }) => `${name} ${digest}`).join(', ') || 'none';
    throw new KilnError(
      'no-toolchain',
      `there is no toolchain ${wanted} ready here; there is ${names}`,
    );
  }
  if (chosen.contents.arch !== kernel.arch) {
    throw new KilnError(
      'no-toolchain',
      `toolchain ${chosen.name} builds for ${chosen.contents.arch}, kernel ${kernel.release} is for ${kernel.arch}`,
    );
  }
  return chosen.digest;
};
