import type { z } from 'zod';
import type { ContractPart } from '../core/compiler-contract.ts';
import type { Digest } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import type { Kernel } from '../core/kernel.ts';
import type { CreateBuild } from '../core/protocol.ts';
import { checkSettings, type Settings, type Source } from '../core/source.ts';
import { chooseToolchain } from '../core/toolchain.ts';
import type { Database } from '../storage/database.ts';
import { kernelOf, readyToolchains, sourceOf, type Stored } from './records.ts';

/** A request for a build, checked. */
export type BuildRequest = z.output<typeof CreateBuild>;

/** What a request names, found. Its dependencies come before it. */
export interface ResolvedBuild {
  readonly source: Stored<Source>;
  readonly kernel: Stored<Kernel>;
  readonly toolchain: Digest;
  readonly waived: readonly ContractPart[];
  readonly settings: Settings;
  readonly dependencies: readonly ResolvedBuild[];
}

const MAX_DEPENDENCY_DEPTH = 8;

/**
 * Finds source, kernel, toolchain and, for each source it depends on, the same, of the newest version here.
 * Throws `not-found`, `conflict`, `bad-source` or `no-toolchain`, saying how to supply what is missing.
 */
export const resolveBuild = async (db: Database, request: BuildRequest): Promise<ResolvedBuild> => {
  checkSettings(request.settings);
  const kernel = await findKernel(db, request.kernel);
  const ready = await readyToolchains(db);
  const resolve = async (
    source: Stored<Source>,
    settings: Settings,
    above: readonly string[],
  ): Promise<ResolvedBuild> => {
    const path = [...above, source.name];
    if (above.includes(source.name) || path.length > MAX_DEPENDENCY_DEPTH) {
      throw new KilnError(
        'bad-source',
        `the sources depend on each other without end: ${path.join(' → ')}; end it in their BUILD_DEPENDS`,
      );
    }
    const { toolchain, breaches } = chooseToolchain(ready, kernel, {
      digest: request.toolchain,
      needs: source.needs,
      waived: request.waive,
    });
    const dependencies: ResolvedBuild[] = [];
    for (const name of source.depends)
      dependencies.push(await resolve(await findSource(db, { name }), {}, path));
    const waived = breaches.map(({ part }) => part);
    return { source, kernel, toolchain: toolchain.digest, waived, settings, dependencies };
  };
  return resolve(await findSource(db, request.source), request.settings, []);
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
