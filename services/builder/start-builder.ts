import { mkdir, realpath } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { mustBeNobodys, REGISTER_NAMES, type BuildUsers } from '../core/sandbox/build-users.ts';
import { KilnError } from '../core/errors.ts';
import { hexOf } from '../core/digest.ts';
import type { Identity, Senders } from '../core/jobs/envelope.ts';
import { shortened, WORDS_LIMIT, type BuilderJob, type Outcome } from '../core/jobs/jobs.ts';
import type { SandboxLimits } from '../core/sandbox/limits.ts';
import { packageRun, runOf } from '../core/jobs/run-name.ts';
import type { BlobPlace } from '../storage/blob-place.ts';
import { openBlobs } from '../storage/open-blobs.ts';
import { Interrupted, openQueue, type JobRun } from '../storage/queues.ts';
import type { RedisAddress } from '../storage/redis.ts';
import { lockDirectory } from '../storage/lock-directory.ts';
import { openMeters } from '../storage/meters.ts';
import { openSignals } from '../storage/signals.ts';
import type { Log } from '../storage/log.ts';
import { openCacheRoom, type Keeping } from './cache-room.ts';
import { connectDocker, type ContainerEngine } from './docker.ts';
import { createImageCache, measureToolchain } from './image-cache.ts';
import { runBuild } from './run-build.ts';
import { runPackage } from './run-package.ts';
import { createSandbox, layMachine } from './sandbox.ts';
import { openTreeCache } from './tree-cache.ts';

/** A builder's settings (see `config.ts`). */
export interface BuilderConfig {
  /** Where metrics are given. */
  readonly metrics: { readonly host: string; readonly port: number } | null;
  readonly redis: RedisAddress;
  readonly prefix: string;
  readonly own: Identity;
  /** The keys of the coordinator: only its jobs are done. */
  readonly coordinator: Senders;
  readonly blobs: BlobPlace;
  /**
   * The directory of unpacked headers and sources, which no other builder has: by it the builder finds the containers that it left when
   * it was killed. Docker must see it at the same path.
   */
  readonly cache: string;
  /** What the cache keeps while no build runs. */
  readonly keeping: Keeping;
  readonly dockerSocket: string;
  readonly runtime: string;
  readonly users: BuildUsers;
  readonly concurrency: number;
  readonly limits: SandboxLimits;
  readonly scripts: { readonly build: string; readonly measure: string; readonly package: string };
  /** The system calls of builds (`images/seccomp.json`). */
  readonly seccomp: string;
}

/** Seconds in which a builder whose kilnd was killed has ended, so that the next one can begin. */
const PATIENCE = 15;
const OFFER_INTERVAL = 5_000;
/** Starts of one job after which it fails: a job that is started so often kills its builders. */
const MAX_STARTS = 6;

/** Starts a builder. `close` gives running builds back to the queue. */
export const startBuilder = async (
  config: BuilderConfig,
  log: Log,
): Promise<{ close(): Promise<void> }> => {
  // Files that are unpacked here must be readable for the sandbox's user, whatever umask this process was given.
  process.umask(0o022);
  await mkdir(config.cache, { recursive: true });
  const cache = await realpath(config.cache);
  const unlock = await lockDirectory(
    cache,
    `another builder already works in ${cache}; give each builder a KILN_BUILDER_CACHE of its own`,
    PATIENCE,
  );
  const blobs = await openBlobs(config.blobs);
  const engine = connectDocker(config.dockerSocket);
  await checkBuildUsers(engine, config.users);
  const sandbox = createSandbox(engine, {
    limits: config.limits,
    machine: await layMachine(join(cache, 'machine'), config.limits),
    runtime: config.runtime,
    users: config.users,
    seccomp: config.seccomp,
    builder: cache,
  });
  await sandbox.clear();
  const room = await openCacheRoom(cache, engine);
  const meters = await openMeters(config.metrics);
  const images = createImageCache(engine, blobs, room, meters);
  const trees = await openTreeCache(cache, blobs, room, meters);
  const { redis, prefix, own, coordinator: senders } = config;
  const signals = await openSignals(redis, prefix, { kind: 'reads', senders });
  const outcomes = openQueue('outcomes', { redis, prefix, own, senders });
  const jobs = openQueue('builder', { redis, prefix, own, senders });
  // The name is the builder's own: two builders that were given the same job report under different names.
  const report = (name: string, outcome: Outcome): Promise<void> =>
    outcomes.add(`${name}-${own.id.slice(0, 12)}`, outcome);

  const build = async (job: Extract<BuilderJob, { kind: 'build' }>, run: JobRun): Promise<void> => {
    const name = runOf(job);
    const cancelled = new AbortController();
    const unhook = signals.onCancel(name, () => cancelled.abort());
    try {
      if (await signals.isCancelled(name)) return;
      if (run.starts > MAX_STARTS)
        throw new Error('every builder that ran the job has died, so it is given up');
      await report(
        `${name}-started-${run.starts}`,
        job.rebuild === null
          ? { kind: 'started', build: job.build, attempt: job.attempt }
          : { kind: 'rebuilding', rebuild: job.rebuild },
      );
      const signal = AbortSignal.any([cancelled.signal, run.stopping]);
      const deps = {
        blobs,
        signals,
        trees,
        images,
        sandbox,
        limits: config.limits,
        prefix: config.prefix,
        script: config.scripts.build,
      };
      const outcome = await runBuild(job, deps, signal);
      await report(`${name}-built`, asReported(job, outcome));
      log.info({ build: job.build, outcome: outcome.kind }, 'build ended');
    } catch (error) {
      if (cancelled.signal.aborted) return;
      if (run.stopping.aborted) throw new Interrupted();
      log.error({ build: job.build, err: error }, 'this machine failed a build');
      if (!run.isLast && run.starts < MAX_STARTS) throw error;
      const failure = {
        code: 'builder-broken',
        message: 'no builder could run this build; ask the admin to look at the builders’ log',
        lines: [],
      } as const;
      const { build: id, attempt } = job;
      const outcome = { kind: 'failed', build: id, attempt, failure, log: null } as const;
      await report(`${name}-built`, asReported(job, outcome));
    } finally {
      unhook();
    }
  };

  let running = 0;
  meters.gauge('kiln_builder_runs', async () => [{ value: running }]);
  let collecting: Promise<void> | null = null;
  const collect = async (): Promise<void> => {
    try {
      const gone = await room.collect(config.keeping);
      if (gone.length > 0) log.info({ gone }, 'removed from the cache');
    } catch (error) {
      log.warn({ err: error }, 'no room could be made in the cache');
    }
    collecting = null;
  };
  /** Does what needs the cache. Room is made whenever nobody needs it; what begins meanwhile waits for that. */
  const withCache = async (act: () => Promise<void>): Promise<void> => {
    while (collecting !== null) await collecting;
    running += 1;
    try {
      await act();
    } finally {
      running -= 1;
      if (running === 0) collecting = collect();
    }
  };

  const measure = async (
    { toolchain, attempt }: Extract<BuilderJob, { kind: 'measure' }>,
    run: JobRun,
  ): Promise<void> => {
    const name = `${hexOf(toolchain)}-${attempt}`;
    try {
      const started = { kind: 'measuring', toolchain, attempt } as const;
      await report(`${name}-measuring-${run.starts}`, started);
      const contents = await measureToolchain(
        toolchain,
        { images, sandbox, script: config.scripts.measure },
        run.stopping,
      );
      await report(`${name}-measured`, { kind: 'measured', toolchain, attempt, contents });
    } catch (error) {
      if (run.stopping.aborted) throw new Interrupted();
      log.error({ toolchain, err: error }, 'a toolchain cannot be measured');
      if (!run.isLast && !(error instanceof KilnError)) throw error;
      const problem =
        error instanceof KilnError ? error.message : 'the builder could not run it; see its log';
      await report(`${name}-measured`, {
        kind: 'unmeasurable',
        toolchain,
        attempt,
        problem: problem.slice(0, WORDS_LIMIT),
      });
    }
  };

  const pack = async (
    job: Extract<BuilderJob, { kind: 'package' }>,
    run: JobRun,
  ): Promise<void> => {
    const { package: id, attempt } = job;
    const name = packageRun(id, attempt);
    try {
      // Said before it is given up: only the builder that is at a package can end it.
      await report(`${name}-packing-${run.starts}`, { kind: 'packing', package: id, attempt });
      if (run.starts > MAX_STARTS)
        throw new Error('every builder that ran the job has died, so it is given up');
      const deps = {
        blobs,
        trees,
        images,
        sandbox,
        prefix: config.prefix,
        script: config.scripts.package,
      };
      const outcome = await runPackage(job, deps, run.stopping);
      await report(`${name}-packed`, outcome);
      log.info({ package: id, outcome: outcome.kind }, 'package ended');
    } catch (error) {
      if (run.stopping.aborted) throw new Interrupted();
      log.error({ package: id, err: error }, 'this machine failed a package');
      if (!run.isLast && run.starts < MAX_STARTS) throw error;
      const problem =
        'no builder could make this package; ask the admin to look at the builders’ log';
      await report(`${name}-packed`, { kind: 'unpackable', package: id, attempt, problem });
    }
  };

  const offer = (): void =>
    void signals.offerSlots(`${hostname()}:${cache}`, config.concurrency).catch(() => {});
  offer();
  const offering = setInterval(offer, OFFER_INTERVAL);

  const working = jobs.work(
    (job, run) =>
      withCache(() => {
        switch (job.kind) {
          case 'build':
            return build(job, run);
          case 'package':
            return pack(job, run);
          case 'measure':
            return measure(job, run);
        }
      }),
    {
      concurrency: config.concurrency,
      onError: (error) => log.warn({ err: error }, 'queue'),
    },
  );

  return {
    async close() {
      clearInterval(offering);
      await working.stop();
      await Promise.all([jobs.close(), outcomes.close()]);
      signals.close();
      await meters.close();
      await unlock();
    },
  };
};

/** Bytes of a host's register of ids; one with a hundred thousand people has a few MiB. */
const REGISTER_LIMIT = 64 * 1024 ** 2;

/** Throws `bad-request` where somebody on the Docker host has one of the builds' ids. */
const checkBuildUsers = async (engine: ContainerEngine, users: BuildUsers): Promise<void> => {
  const texts = await engine.readHostFiles('/etc', REGISTER_NAMES, REGISTER_LIMIT);
  for (const register of REGISTER_NAMES) mustBeNobodys(users, register, texts.get(register) ?? '');
};

/** An outcome as it is reported: its texts are cut to their limits, and a rebuild's becomes a `rebuilt`, which leaves the build as it is. */
const asReported = (
  { rebuild }: Extract<BuilderJob, { kind: 'build' }>,
  outcome: Outcome,
): Outcome => {
  if (rebuild === null) {
    if (outcome.kind === 'failed') return { ...outcome, failure: shortened(outcome.failure) };
    if (outcome.kind === 'excluded')
      return { ...outcome, reason: outcome.reason.slice(0, WORDS_LIMIT) };
    return outcome;
  }
  return {
    kind: 'rebuilt',
    rebuild,
    modules: outcome.kind === 'built' ? outcome.modules : [],
    failure: outcome.kind === 'failed' ? shortened(outcome.failure) : null,
  };
};
