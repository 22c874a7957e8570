import type { Digest } from '../../core/digest.ts';
import { isSignatureHash } from '../../core/module/module-signature.ts';
import type { BuilderJob, SignJob } from '../../core/jobs/jobs.ts';
import type { Turns } from './turns.ts';
import { runName, runOf } from '../../core/jobs/run-name.ts';
import { fromJson } from '../../storage/json-text.ts';
import type { CoordinatorDeps } from './coordinator-deps.ts';
import { findBuiltAgainst, withoutRecord } from '../record/built-against.ts';
import { builtRecord } from '../record/artifacts.ts';
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
      toolchain: build.toolchain,
      dependencies: against.dependencies,
      settings: fromJson(build.settings),
      inputs: fromJson(build.inputs),
    };
    await deps.builder.add(runOf({ build: id, attempt, rebuild }), job, isLate);
  };

  const enqueueSigning = async (id: string): Promise<void> => {
    const { build, kernel } = await loadBuild(db, id);
    const hash = kernel.signatureHash;
    if (!isSignatureHash(hash)) throw new Error(`policy should not have let ${hash} through`);
    const { attempt } = build;
    const job: SignJob = { kind: 'sign', ...(await builtRecord(db, build)), attempt, hash };
    await deps.signer.add(jobName.build(id, attempt), job);
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
