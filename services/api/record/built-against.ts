import { isFinished } from '../../core/build/build-state.ts';
import type { Digest } from '../../core/digest.ts';
import { buildIdOf, type FingerprintInputs } from '../../core/build/fingerprint.ts';
import type { Dependency, TreeOrigin } from '../../core/jobs/jobs.ts';
import type { Source } from '../../core/source/source.ts';
import type { Database } from '../../storage/database.ts';
import { fromJson } from '../../storage/json-text.ts';
import { exportsOf, unsignedModules } from './artifacts.ts';
import { loadBuild, type StoredSource } from './records.ts';

/** The builds that one is built against: all finished, some still to be made, or one that cannot be had. */
export type BuiltAgainst =
  | { readonly kind: 'there'; readonly dependencies: readonly Dependency[] }
  | { readonly kind: 'waiting' }
  /** The build that cannot be had, a sentence that says so, and the command that asks for it again. */
  | {
      readonly kind: 'lost';
      readonly build: string;
      readonly words: string;
      readonly command: string;
    };

/** Finds what a build is built against, by what its fingerprint covers. Throws `not-found` if there is no such build. */
export const findBuiltAgainst = async (db: Database, id: string): Promise<BuiltAgainst> => {
  const { build } = await loadBuild(db, id);
  const inputs = fromJson(build.inputs);
  const found: Dependency[] = [];
  let isWaiting = false;
  for (const dependency of inputs.dependencies) {
    const needed = buildIdOf(dependency.fingerprint);
    const row = await db
      .selectFrom('builds')
      .select(['state', 'inputs'])
      .where('id', '=', needed)
      .executeTakeFirst();
    const lost = (how: string): BuiltAgainst => ({
      kind: 'lost',
      build: needed,
      words: `it is built against ${dependency.name}/${dependency.version}, whose build ${needed} ${how}`,
      command: commandFor(dependency, inputs, row === undefined ? null : fromJson(row.inputs)),
    });
    if (row === undefined) return lost('is not here any more');
    const { state } = row;
    if (state !== 'succeeded' && isFinished(state)) return lost(`is ${state}`);
    const exports = state === 'succeeded' ? await exportsOf(db, needed) : null;
    if (exports === null) isWaiting = true;
    else found.push(await finishedDependency(db, needed, exports));
  }
  return isWaiting ? { kind: 'waiting' } : { kind: 'there', dependencies: found };
};

const finishedDependency = async (
  db: Database,
  id: string,
  exports: Digest,
): Promise<Dependency> => {
  const { build, source } = await loadBuild(db, id);
  return {
    fingerprint: build.fingerprint,
    source: withoutRecord(source),
    modules: await unsignedModules(db, id),
    exports,
  };
};

/** The command that asks for a dependency's build with the kernel and toolchain it was for; its own inputs may be lost. */
const commandFor = (
  { name, version }: Pick<Source, 'name' | 'version'>,
  above: FingerprintInputs,
  own: FingerprintInputs | null,
): string => {
  const { kernel, toolchain, waived } = own ?? above;
  const waivers = waived.map((part) => ` --waive ${part}`).join('');
  return `kiln build ${name}/${version} -k ${kernel.tree} --toolchain ${toolchain}${waivers} --retry`;
};

/** A source as builders need it, without the record's own columns. */
export const withoutRecord = ({
  trust: _t,
  createdAt: _c,
  commit: _m,
  madeBy: _b,
  ...job
}: StoredSource): Source & TreeOrigin => job;
