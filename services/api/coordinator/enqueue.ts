import type { Digest } from '../../core/digest.ts';
import type { FingerprintInputs } from '../../core/build/fingerprint.ts';
import { isSignatureHash } from '../../core/module/module-signature.ts';
import type { Recipe } from '../../core/build/recipe.ts';
import type { BuilderJob } from '../../core/jobs/jobs.ts';
import type { Turns } from './turns.ts';
import { runName, runOf } from '../../core/jobs/run-name.ts';
import type { CoordinatorDeps } from './coordinator-deps.ts';
import type { Settings } from '../../core/source/source.ts';
import { findBuiltAgainst, withoutRecord } from '../record/built-against.ts';
import { loadBuild } from '../record/records.ts';
import { findToolchain } from '../record/toolchains.ts';

/** Puts the work that SQL has on the queues. Doing it twice is harmless: a job's name is the same each time. */
export interface Enqueue {
  /** Puts a build on the builders' queue; does nothing while it waits for another build or for its turn. */
  build(id: string): Promise<void>;
  /** Puts a rebuild on the builders' queue, under the rebuild's own name; does nothing while it waits for another build. */
  rebuild(id: string, rebuild: string): Promise<void>;
  signing(id: string): Promise<void>;
  measuring(toolchain: Digest): Promise<void>;
}

/** The names of jobs on their queues. */
export const jobName = {
  build: runName,
  measuring: (toolchain: string, attempt: number): string =>
    `measure-${toolchain.replace(':', '-')}-${attempt}`,
};

export const createEnqueue = (
  deps: CoordinatorDeps,
  turns: Pick<Turns, 'isTurnOf' | 'isBackground'>,
): Enqueue => {
  const { db } = deps;

  const enqueueBuild = async (id: string, rebuild: string | null = null): Promise<void> => {
    const { build, source, kernel } = await loadBuild(db, id);
    const { attempt } = build;
    const against = await findBuiltAgainst(db, id);
    if (against.kind !== 'there') return;
    const isNew = rebuild === null && build.state === 'queued';
    if (isNew && !(await turns.isTurnOf(id))) return;
    const isLate = rebuild !== null || (await turns.isBackground(id));
    const { trust: _k, createdAt: _kc, madeBy: _kb, ...kernelJob } = kernel;
    const job: BuilderJob = {
      kind: 'build',
      build: id,
      attempt,
      rebuild,
      source: withoutRecord(source),
      kernel: kernelJob,
      toolchain: build.toolchain as Digest,
      dependencies: against.dependencies,
      settings: JSON.parse(build.settings) as Settings,
      inputs: JSON.parse(build.inputs) as FingerprintInputs,
    };
    await deps.builder.add(runOf({ build: id, attempt, rebuild }), job, isLate);
  };

  const enqueueSigning = async (id: string): Promise<void> => {
    const { build, kernel } = await loadBuild(db, id);
    const hash = kernel.signatureHash;
    if (!isSignatureHash(hash)) throw new Error(`policy should not have let ${hash} through`);
    const modules = await db
      .selectFrom('modules')
      .select(['name', 'unsigned'])
      .where('build', '=', id)
      .orderBy('name')
      .execute();
    await deps.signer.add(jobName.build(id, build.attempt), {
      build: id,
      attempt: build.attempt,
      fingerprint: build.fingerprint as Digest,
      hash,
      inputs: JSON.parse(build.inputs) as FingerprintInputs,
      recipe: JSON.parse(build.recipe ?? '{}') as Recipe,
      modules: modules.map(({ name, unsigned }) => ({ name, unsigned: unsigned as Digest })),
    });
  };

  const enqueueMeasuring = async (toolchain: Digest): Promise<void> => {
    const { attempt } = await findToolchain(db, toolchain);
    const name = jobName.measuring(toolchain, attempt);
    await deps.builder.add(name, { kind: 'measure', toolchain, attempt });
  };

  return {
    build: (id) => enqueueBuild(id),
    rebuild: enqueueBuild,
    signing: enqueueSigning,
    measuring: enqueueMeasuring,
  };
};
