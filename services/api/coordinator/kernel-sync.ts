import { setTimeout as sleep } from 'node:timers/promises';
import type { Digest } from '../../core/digest.ts';
import { KilnError } from '../../core/errors.ts';
import { newestHeaders } from '../../core/kernel/archive.ts';
import { archiveOf } from '../../core/policy/ownership.ts';
import { findWithdrawn } from '../../core/policy/withdrawal.ts';
import type { SyncView } from '../../core/protocol/archive.ts';
import { compareSources } from '../../core/source/source-version.ts';
import type { Log } from '../../storage/log.ts';
import { sourceOf, type StoredSource } from '../record/records.ts';
import type { BuildRequest } from '../record/resolve-build.ts';
import type { UploadDeps } from '../record/uploads.ts';
import { unlessBusy } from '../../storage/alone.ts';
import { newSync, readSync, saySync, SAID_EVERY } from '../record/syncs.ts';
import { readWithdrawals } from '../record/withdrawn.ts';
import { takeInSources, type SourcesReport } from './archive-sources.ts';
import type { Archives, FollowedArchive } from './archives.ts';
import type { Coordinator } from './coordinator.ts';
import { SYNC, type KernelIntake } from './kernel-intake.ts';

/** Follows distributions' archives: new headers and modules' sources are taken in as verified, and sources marked for it are built for the headers. */
export interface KernelSync {
  /** Begins a run, or joins the one under way, here or in another API. */
  start(): Promise<SyncView>;
  /** Begins one unless the last one ended less than so many milliseconds ago. */
  startAfter(milliseconds: number): Promise<void>;
  state(): Promise<SyncView>;
  /** Waits for the run under way here to end. */
  settled(): Promise<void>;
}

export interface KernelSyncDeps extends UploadDeps {
  readonly coordinator: Pick<Coordinator, 'request'>;
  readonly archives: Archives;
  readonly intake: KernelIntake;
  readonly blobLimit: number;
  readonly log: Log;
}

const MOST_LOOKS = 50;
/** Milliseconds. */
const LOOK_EVERY = 100;

export const createKernelSync = (deps: KernelSyncDeps): KernelSync => {
  const { db, now } = deps;
  let view = newSync;
  let isRunning = false;
  /** Whether the run that was begun last was this API's. */
  let beginning = Promise.resolve(false);
  let underWay: Promise<void> = Promise.resolve();
  let said: Promise<void> = Promise.resolve();
  /** Says how the run stands, once what was said before is written. */
  const say = (): void => {
    said = said
      .then(() => saySync(db, view, now()))
      .catch((error: unknown) => deps.log.warn({ err: error }, 'kernel sync'));
  };
  const update = (change: Partial<SyncView>): void => {
    view = { ...view, ...change };
    say();
  };
  const problem = (what: string, error: unknown): void => {
    deps.log.warn({ err: error, what }, 'kernel sync');
    const words = error instanceof KilnError ? error.message : 'a defect; see the service’s log';
    update({ problems: [...view.problems, `${what}: ${words}`] });
  };

  const report: SourcesReport = {
    step: (step) => update({ step }),
    source: (found) => update({ sources: [...view.sources, found] }),
    problem,
  };

  const syncArchive = async (archive: FollowedArchive): Promise<void> => {
    report.step(`reading ${archive.name}`);
    await archive.update();
    const brought = await takeInSources(deps, archive, archive.packages, report).catch(
      (error: unknown) => {
        problem(archive.name, error);
        return [];
      },
    );
    const ahead = archive.buildsAhead ? brought : [];
    const names = [...(await archive.headerPackages()).values()];
    for (const { name, release } of newestHeaders(archive, names)) {
      try {
        const { digest, isNew } = await deps.intake.take(archive, name, release, report.step);
        update({ kernels: [...view.kernels, { release, digest, isNew }] });
        // A kernel that was there before counts, too: a source may have been pushed since.
        await buildAll(digest, release, ahead);
      } catch (error) {
        problem(release, error);
      }
    }
  };

  /** Builds what is marked for it: what tokens have published, and those sources of the kernel's own archive that are built ahead. */
  const buildAll = async (
    kernel: Digest,
    release: string,
    ahead: readonly StoredSource[],
  ): Promise<void> => {
    for (const { name, source } of await autoinstalled(deps, ahead)) {
      try {
        const { build, cached } = await deps.coordinator.request(
          {
            source,
            kernel: { digest: kernel },
            waive: [],
            settings: {},
            retry: false,
            background: true,
          },
          SYNC,
        );
        if (!cached) update({ builds: [...view.builds, build.id] });
      } catch (error) {
        problem(`${name} for ${release}`, error);
      }
    }
  };

  const run = async (): Promise<void> => {
    for (const archive of await deps.archives.list()) {
      try {
        await syncArchive(archive);
      } catch (error) {
        problem(archive.name, error);
      }
    }
  };

  /** Makes a run unless another API is at it. */
  const make = async (begun: () => void): Promise<void> => {
    isRunning = true;
    view = newSync;
    const teller = setInterval(say, SAID_EVERY);
    try {
      await unlessBusy(db, 'sync', async () => {
        update({});
        await said;
        begun();
        await run().catch((error: unknown) => problem('sync', error));
        update({ state: 'idle', step: '', finishedAt: now() });
      });
    } finally {
      clearInterval(teller);
      await said;
      isRunning = false;
    }
  };

  const state = (): Promise<SyncView> => readSync(db, now());
  const begin = async (): Promise<boolean> => {
    const { promise: isBegun, resolve: begun } = Promise.withResolvers<boolean>();
    underWay = make(() => begun(true)).catch((error: unknown) =>
      deps.log.warn({ err: error }, 'kernel sync'),
    );
    return Promise.race([isBegun, underWay.then(() => false)]);
  };
  const start = async (): Promise<SyncView> => {
    const since = now();
    if (!isRunning) beginning = begin();
    if (await beginning) return state();
    // Another API is at it, and may be about to say so.
    for (let looks = 0; looks < MOST_LOOKS; looks += 1) {
      const found = await state();
      if (found.state === 'running' || (found.finishedAt ?? 0) >= since) return found;
      await sleep(LOOK_EVERY);
    }
    return state();
  };

  return {
    start,
    state,
    async startAfter(milliseconds) {
      const { finishedAt } = await state();
      if (finishedAt === null || finishedAt < now() - milliseconds) await start();
    },
    settled: () => underWay,
  };
};

/**
 * Sources that are to be there for a kernel (AUTOINSTALL), each in its newest version that is not withdrawn: of those that tokens have
 * published, and of some of an archive's.
 */
const autoinstalled = async (
  { db }: Pick<UploadDeps, 'db'>,
  ahead: readonly StoredSource[],
): Promise<readonly { readonly name: string; readonly source: BuildRequest['source'] }[]> => {
  const rows = await db
    .selectFrom('source_names')
    .innerJoin('sources', 'sources.digest', 'source_names.source')
    .selectAll('sources')
    .select('source_names.made_by as published_by')
    .orderBy('source_names.created_at')
    .execute();
  const withdrawals = await readWithdrawals(db);
  const pushed = rows.filter(({ published_by }) => archiveOf(published_by) === null);
  const newest = new Map<string, StoredSource>();
  for (const source of [...ahead, ...pushed.map(sourceOf)]) {
    if (findWithdrawn(withdrawals, [['source', source.digest]]) !== null) continue;
    const before = newest.get(source.name);
    if (before === undefined || compareSources(source, before) >= 0)
      newest.set(source.name, source);
  }
  return [...newest.values()].flatMap(({ name, digest, autoinstall }) => {
    if (!autoinstall) return [];
    return { name, source: ahead.some((each) => each.digest === digest) ? { digest } : { name } };
  });
};
