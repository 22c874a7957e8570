import type { z } from 'zod';
import type { ContractPart } from '../../core/kernel/compiler-contract.ts';
import type { Digest } from '../../core/digest.ts';
import { KilnError } from '../../core/errors.ts';
import {
  fingerprintInputs,
  fingerprintOf,
  type FingerprintInputs,
} from '../../core/build/fingerprint.ts';
import type { CreateBuild } from '../../core/protocol/build.ts';
import { checkSettings, type Settings, type Source } from '../../core/source/source.ts';
import { compareSources } from '../../core/source/source-version.ts';
import { findWithdrawn, madeOf, type Withdrawal } from '../../core/policy/withdrawal.ts';
import {
  chooseToolchain,
  type ReadyToolchain,
  type ToolchainState,
} from '../../core/toolchain/toolchain.ts';
import type { Database } from '../../storage/database.ts';
import {
  toolchainsIn,
  sourceOf,
  type Stored,
  type StoredKernel,
  type StoredSource,
} from './records.ts';
import { findKernelOf } from './find-kernel.ts';
import { mayReadTree, type Reader } from './readers.ts';
import { mustNotBeWithdrawn, readWithdrawals } from './withdrawn.ts';

/** A request for a build, checked. */
export type BuildRequest = z.output<typeof CreateBuild>;

/** The records that a request names, and the fingerprint that follows from them. */
export interface ResolvedBuild {
  readonly source: Stored<Source>;
  readonly kernel: StoredKernel;
  readonly toolchain: Digest;
  readonly waived: readonly ContractPart[];
  readonly settings: Settings;
  /** The builds that it is directly built against; builds that share a dependency share the object. */
  readonly dependencies: readonly ResolvedBuild[];
  readonly inputs: FingerprintInputs;
  readonly fingerprint: Digest;
}

/** The most other sources that one may be built against, over all layers. */
const MAX_DEPENDENCIES = 64;

/** Look-ups that builds which are resolved together share, so that each is made once. */
export interface Lookups {
  kernel(wanted: BuildRequest['kernel']): Promise<StoredKernel>;
  /** The sources that are meant, the best first: one, or all versions that a name has. */
  sources(wanted: BuildRequest['source']): Promise<readonly StoredSource[]>;
  toolchains(states: readonly ToolchainState[]): Promise<readonly ReadyToolchain[]>;
  withdrawals(): Promise<readonly Withdrawal[]>;
  /** What was found for sources that others are built against, by kernel, toolchain, waivers and name. */
  readonly dependencies: Map<string, ResolvedBuild>;
}

/** Lookups that remember what they have found, for as long as nothing changes. */
export const lookupsIn = (db: Database, reader: Reader): Lookups => ({
  kernel: remembering((wanted: BuildRequest['kernel']) => findKernelOf(db, reader, wanted)),
  sources: remembering((wanted: BuildRequest['source']) => findSources(db, reader, wanted)),
  toolchains: remembering((states: readonly ToolchainState[]) => toolchainsIn(db, ...states)),
  withdrawals: remembering(() => readWithdrawals(db)),
  dependencies: new Map(),
});

const remembering = <T extends readonly unknown[], R>(
  find: (...wanted: T) => Promise<R>,
): ((...wanted: T) => Promise<R>) => {
  const found = new Map<string, Promise<R>>();
  return (...wanted) => {
    const key = JSON.stringify(wanted);
    const known = found.get(key) ?? find(...wanted);
    found.set(key, known);
    return known;
  };
};

/**
 * Finds source, kernel, toolchain and, for each source it depends on, the same, each once, whatever the ways that lead to it. A name
 * without a version means the newest that is not withdrawn, nor what would be built of it. Throws `not-found`, `conflict`,
 * `withdrawn`, `bad-source` (a ring, or too many) or `no-toolchain`, saying what to do.
 */
export const resolveBuild = async (
  request: BuildRequest,
  script: Digest,
  lookups: Lookups,
): Promise<ResolvedBuild> => {
  checkSettings(request.settings);
  const kernel = await lookups.kernel(request.kernel);
  // A toolchain that is named may be retired: the coordinator decides whether it may still build this.
  const named: readonly ToolchainState[] = ['pinned', 'candidate', 'retired'];
  const withdrawals = await lookups.withdrawals();
  if (request.toolchain !== undefined)
    mustNotBeWithdrawn(withdrawals, [['toolchain', request.toolchain]], OTHER_TOOLCHAIN);
  const ready = (
    await lookups.toolchains(request.toolchain === undefined ? ['pinned'] : named)
  ).filter(({ digest }) => findWithdrawn(withdrawals, [['toolchain', digest]]) === null);
  const wanted = await lookups.sources(request.source);
  const known = lookups.dependencies;
  const keyOf = (name: string): string =>
    JSON.stringify([kernel.digest, request.toolchain, request.waive.toSorted(), name]);
  let count = 0;
  const resolve = async (
    source: StoredSource,
    settings: Settings,
    above: readonly string[],
  ): Promise<ResolvedBuild> => {
    mustEnd(source.name, above);
    mustNotBeWithdrawn(withdrawals, [['source', source.digest]], OTHER_SOURCE);
    const path = [...above, source.name];
    const { toolchain, breaches } = chooseToolchain(ready, kernel, {
      digest: request.toolchain,
      needs: source.needs,
      hasRust: source.hasRust,
      waived: request.waive,
    });
    const dependencies: ResolvedBuild[] = [];
    for (const name of source.depends) {
      let dependency = known.get(keyOf(name));
      if (dependency === undefined) {
        count += 1;
        if (count > MAX_DEPENDENCIES) throw tooMany(source);
        dependency = await firstOf(await lookups.sources({ name }), (each) =>
          resolve(each, {}, path),
        );
        known.set(keyOf(name), dependency);
      }
      dependencies.push(dependency);
    }
    const waived = breaches.map(({ part }) => part);
    const found = { source, kernel, toolchain: toolchain.digest, waived, settings };
    const inputs = fingerprintInputs({ ...found, dependencies: dependencies.map(asInput) }, script);
    const build = { ...found, dependencies, inputs, fingerprint: fingerprintOf(inputs) };
    if (deepestFirst(build).length > MAX_DEPENDENCIES) throw tooMany(source);
    mustNotBeWithdrawn(withdrawals, madeOf(inputs, build.fingerprint, null), OTHER_BUILD);
    return build;
  };
  return firstOf(wanted, (source) => resolve(source, request.settings, []));
};

const OTHER_TOOLCHAIN = 'leave out --toolchain, or have an admin take that back';
const OTHER_SOURCE = 'ask for another version, or have an admin take that back';
const OTHER_BUILD = 'push a new version of the source, or have an admin take that back';

/** The result for the first source that is not withdrawn; else the error of the best one. */
const firstOf = async <T>(
  sources: readonly StoredSource[],
  resolve: (source: StoredSource) => Promise<T>,
): Promise<T> => {
  let problem: KilnError | null = null;
  for (const source of sources) {
    try {
      return await resolve(source);
    } catch (error) {
      if (!(error instanceof KilnError) || error.code !== 'withdrawn') throw error;
      problem ??= error;
    }
  }
  throw problem ?? new KilnError('not-found', 'there is no such source; push it first');
};

/** All builds that one is built against, over all layers: each once, behind those that it is built against itself. */
export const deepestFirst = ({ dependencies }: ResolvedBuild): readonly ResolvedBuild[] => {
  const found = new Set<ResolvedBuild>();
  const visit = (build: ResolvedBuild): void => {
    if (found.has(build)) return;
    build.dependencies.forEach(visit);
    found.add(build);
  };
  dependencies.forEach(visit);
  return [...found];
};

/** Throws `bad-source` where sources depend on each other in a ring. */
const mustEnd = (name: string, above: readonly string[]): void => {
  const first = above.indexOf(name);
  if (first === -1) return;
  throw new KilnError(
    'bad-source',
    `the sources depend on each other without end: ${[...above.slice(first), name].join(' → ')}; end it in their BUILD_DEPENDS`,
  );
};

const tooMany = ({ name, version }: Source): KilnError =>
  new KilnError(
    'bad-source',
    `${name}/${version} is built against more than ${MAX_DEPENDENCIES} other sources, the limit here; leave out of their BUILD_DEPENDS what is not needed`,
  );

const asInput = ({
  source: { name, version },
  fingerprint,
}: ResolvedBuild): FingerprintInputs['dependencies'][number] => ({ name, version, fingerprint });

/** The sources that a request means, the best first. Throws `not-found`. */
export const findSources = async (
  db: Database,
  reader: Reader,
  wanted: BuildRequest['source'],
): Promise<readonly StoredSource[]> => {
  if ('digest' in wanted) {
    const row = await db
      .selectFrom('sources')
      .selectAll()
      .where('digest', '=', wanted.digest)
      .executeTakeFirst();
    const found = row === undefined ? null : sourceOf(row);
    if (found === null || !(await mayReadTree(db, reader, found)))
      throw new KilnError('not-found', `there is no source ${wanted.digest}; push it first`);
    return [found];
  }
  let named = db
    .selectFrom('source_names')
    .innerJoin('sources', 'sources.digest', 'source_names.source')
    .selectAll('sources')
    .where('source_names.name', '=', wanted.name);
  if (wanted.version !== undefined)
    named = named.where('source_names.version', '=', wanted.version);
  const rows = await named.orderBy('source_names.created_at', 'desc').execute();
  if (rows.length === 0) {
    const name = wanted.version === undefined ? wanted.name : `${wanted.name}/${wanted.version}`;
    throw new KilnError(
      'not-found',
      `there is no source ${name} here; ci or an admin adds it with kiln source push`,
    );
  }
  // Of equal versions the one that was pushed last comes first.
  return rows.map(sourceOf).toSorted((one, other) => compareSources(other, one));
};
