import { join } from 'node:path';
import { BUILD_EXITS, explainBuildEnd } from '../core/sandbox/build-exit.ts';
import { errorLines } from '../core/sandbox/compiler-output.ts';
import { readDkmsConf } from '../core/source/dkms-conf.ts';
import { DKMS_VARIABLES, parseEvaluation, PASSED_OVER } from '../core/source/dkms-evaluation.ts';
import { digestOf } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import type { BuildFailure, BuilderJob, Outcome } from '../core/jobs/jobs.ts';
import type { Symvers } from '../core/module/kabi.ts';
import type { SandboxLimits } from '../core/sandbox/limits.ts';
import {
  dkmsRecipe,
  installDirectories,
  kernelLink,
  kbuildRecipe,
  packageDirectory,
  sourceDirectory,
  type Recipe,
} from '../core/build/recipe.ts';
import { runOf } from '../core/jobs/run-name.ts';
import type { Blobs } from '../storage/blobs.ts';
import type { Signals } from '../storage/signals.ts';
import { startBuildLog, type BuildLog } from './build-log.ts';
import { collectModules } from './collect-modules.ts';
import { startConversation } from './conversation.ts';
import { toolchainAnswers } from './toolchain-answers.ts';
import { DependencyLost, dependencyMounts } from './dependency-mounts.ts';
import { SandboxLimitReached, type Sandbox } from './sandbox.ts';
import type { ImageCache } from './image-cache.ts';
import { readSymvers, type Mount, type TreeCache } from './tree-cache.ts';

/** The dependencies of a build's run. */
export interface BuildDeps {
  readonly blobs: Blobs;
  readonly signals: Signals;
  readonly trees: TreeCache;
  readonly images: ImageCache;
  readonly sandbox: Sandbox;
  readonly limits: SandboxLimits;
  /** A prefix that tells this Kiln's containers from another's on the same Docker. */
  readonly prefix: string;
  /** The in-container build script. */
  readonly script: string;
}

type BuildJob = Extract<BuilderJob, { kind: 'build' }>;

/** The exception where `dkms.conf` excludes this kernel. */
class Excluded extends Error {}

/**
 * Builds one job to its outcome. A build that fails is an outcome; a machine that fails is an exception.
 * Aborting the signal ends it with the signal's reason.
 */
export const runBuild = async (
  job: BuildJob,
  deps: BuildDeps,
  signal: AbortSignal,
): Promise<Outcome> => {
  const { build, attempt, kernel } = job;
  const run = runOf(job);
  const log = startBuildLog(build, run, deps.signals, deps.blobs);
  const outcomeOf = async (failure: BuildFailure): Promise<Outcome> => ({
    kind: 'failed',
    build,
    attempt,
    failure,
    log: await log.close(),
  });
  try {
    const started = performance.now();
    if (digestOf(deps.script) !== job.inputs.script) {
      throw new Error(
        'this builder’s build script is not the coordinator’s; update both to the same Kiln',
      );
    }
    log.write(
      `kiln: ${job.source.name}/${job.source.version} for ${kernel.release} with toolchain ${job.toolchain}\n`,
    );
    const label = `${deps.prefix}.${job.rebuild ?? build}`;
    await deps.sandbox.clear(`kiln.build=${label}`);
    const [image, mounts] = await Promise.all([
      deps.images.get(job.toolchain),
      mountsFor(job, deps.trees),
    ]);
    const answers = await toolchainAnswers(job, image, deps);
    const prepared = performance.now();

    let recipe: Recipe | null = null;
    const conversation = startConversation((evaluation) => {
      recipe = workOutRecipe(job, evaluation, parallelJobs(deps.limits));
      for (const name of recipe.passedOver)
        log.write(`kiln: dkms.conf sets ${name}, which is passed over: ${PASSED_OVER[name]}\n`);
      return recipe;
    });
    const end = await deps.sandbox.run(
      {
        image,
        script: deps.script,
        args: [
          job.source.name,
          job.source.version,
          kernel.release,
          kernel.arch,
          kernel.build ?? '#1 SMP',
          kernel.compiler,
          String(parallelJobs(deps.limits)),
          ...DKMS_VARIABLES,
        ],
        environment: job.inputs.environment,
        mounts: [...mounts, answers],
        workplaces: [packageDirectory(job.source), ...installDirectories(kernel)],
        labels: { 'kiln.build': label },
      },
      {
        log: (piece) => log.write(piece),
        output: (piece, input) => conversation.hear(piece, input),
      },
      signal,
    );
    const ended = performance.now();
    if (end.exitCode !== BUILD_EXITS.built || recipe === null)
      return await outcomeOf(explainBuildEnd(end, log.tail(), deps.limits));
    const { modules, exports } = await collectModules(
      conversation.tarball(),
      recipe,
      kernel,
      await exportersFor(job, deps.trees),
      deps.blobs,
    );
    const timings = {
      prepare: Math.round(prepared - started),
      sandbox: Math.round(ended - prepared),
      check: Math.round(performance.now() - ended),
    };
    const result = { recipe, modules, exports, log: await log.close(), timings };
    return { kind: 'built', build, attempt, ...result };
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof Excluded) {
      log.write(`kiln: not for this kernel: ${error.message}\n`);
      return { kind: 'excluded', build, attempt, reason: error.message, log: await log.close() };
    }
    const failure = explainError(error, log);
    if (failure !== null) return await outcomeOf(failure);
    await log.close().catch(() => {});
    throw error;
  }
};

/** Make's parallelism: the sandbox's CPUs. */
const parallelJobs = ({ cpus }: SandboxLimits): number => Math.max(1, Math.ceil(cpus));

/** The mounts that a build sees besides the image: its source, the headers, what it is built against, a host's settings. */
const mountsFor = async (
  { source, kernel, settings, dependencies }: BuildJob,
  trees: TreeCache,
): Promise<readonly Mount[]> => {
  const others = await Promise.all(
    dependencies.map((dependency) => dependencyMounts(dependency, kernel, trees)),
  );
  return [
    { from: await trees.source(source.tree, source), at: sourceDirectory(source) },
    ...(await trees.kernel(kernel)),
    ...(await trees.settings(settings)),
    ...others.flat(),
  ];
};

/** The symbols that a build's modules may import; `null`, so that none are checked, where the kernel's headers do not list any. */
const exportersFor = async (
  job: BuildJob,
  trees: TreeCache,
): Promise<readonly Symvers[] | null> => {
  if (job.kernel.symversDigest === null) return null;
  const exporters = [await trees.symvers(job.kernel)];
  for (const dependency of job.dependencies) {
    const { from } = await trees.dependency(dependency, job.kernel);
    exporters.push(await readSymvers(join(from, kernelLink(dependency.source, job.kernel).to)));
  }
  return exporters;
};

const workOutRecipe = ({ source, kernel }: BuildJob, evaluation: Buffer, jobs: number): Recipe => {
  if (source.kind === 'kbuild') return kbuildRecipe(source, kernel, jobs);
  const conf = readDkmsConf(parseEvaluation(evaluation), kernel);
  if (conf.excluded !== null) throw new Excluded(conf.excluded);
  return dkmsRecipe(conf, source, kernel, jobs);
};

/** The failure in an error that the build itself caused; `null` for an error of the machine. */
const explainError = (error: unknown, log: BuildLog): BuildFailure | null => {
  if (error instanceof SandboxLimitReached) {
    const code = error.limit === 'time' ? 'timed-out' : 'over-limit';
    return {
      code,
      message: `${error.message}, the limit of this builder`,
      lines: errorLines(log.tail()),
    };
  }
  if (error instanceof DependencyLost)
    return { code: 'dependency-failed', message: error.message, lines: [] };
  if (!(error instanceof KilnError)) return null;
  switch (error.code) {
    case 'bad-source':
      return { code: 'bad-source', message: error.message, lines: [] };
    case 'bad-tarball':
    case 'too-large':
    case 'unverified':
      return { code: 'bad-output', message: error.message, lines: errorLines(log.tail()) };
    default:
      return null;
  }
};
