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
import { readWithdrawals } from '../record/withdrawn.ts';
import { takeInSources, type SourcesReport } from './archive-sources.ts';
import type { Archives, FollowedArchive } from './archives.ts';
import type { Coordinator } from './coordinator.ts';
import { SYNC, type KernelIntake } from './kernel-intake.ts';

/** Follows distributions' archives: new headers and modules' sources are taken in as verified, and sources marked for it are built for the headers. */
export interface KernelSync {
  /** Begins a run, or joins the one under way. */
  start(): SyncView;
  state(): SyncView;
  /** Waits for the run under way to end. */
  settled(): Promise<void>;
}

export interface KernelSyncDeps extends UploadDeps {
  readonly coordinator: Pick<Coordinator, 'request'>;
  readonly archives: Archives;
  readonly intake: KernelIntake;
  readonly blobLimit: number;
  readonly log: Log;
}

const NOTHING = { kernels: [], sources: [], builds: [], problems: [], finishedAt: null };

export const createKernelSync = (deps: KernelSyncDeps): KernelSync => {
  let view: SyncView = { ...NOTHING, state: 'idle', step: '' };
  let underWay: Promise<void> = Promise.resolve();
  const update = (change: Partial<SyncView>): void => {
    view = { ...view, ...change };
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
    update({ state: 'idle', step: '', finishedAt: deps.now() });
  };

  return {
    start() {
      if (view.state === 'idle') {
        view = { ...NOTHING, state: 'running', step: 'beginning' };
        underWay = run().catch((error: unknown) => {
          problem('sync', error);
          update({ state: 'idle', finishedAt: deps.now() });
        });
      }
      return view;
    },
    state: () => view,
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
