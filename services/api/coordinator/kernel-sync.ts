import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { pack } from 'tar-stream';
import { newestHeaders, type KernelArchive } from '../../core/kernel/archive.ts';
import { digestOf, type Digest } from '../../core/digest.ts';
import { KilnError } from '../../core/errors.ts';
import type { SyncView } from '../../core/protocol/archive.ts';
import { compareSources } from '../../core/source/source-version.ts';
import { archiveOf } from '../../core/policy/ownership.ts';
import { findWithdrawn } from '../../core/policy/withdrawal.ts';
import { openApt, type Apt, type AptPackage } from '../../storage/apt.ts';
import type { Log } from '../../storage/log.ts';
import { takeInSources, type SourcesReport } from './archive-sources.ts';
import type { Coordinator } from './coordinator.ts';
import { ingestKernel } from '../record/ingest-kernel.ts';
import { sourceOf, type StoredSource } from '../record/records.ts';
import type { BuildRequest } from '../record/resolve-build.ts';
import type { Caller } from '../record/tokens.ts';
import { readWithdrawals } from '../record/withdrawn.ts';
import { storeUpload, type UploadDeps } from '../record/uploads.ts';

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
  /** A directory of its own, for apt. */
  readonly directory: string;
  readonly blobLimit: number;
  readonly log: Log;
}

/** Who takes in an archive’s kernels, and asks for the builds that a sync begins. */
const SYNC: Caller = { token: 'kernel-sync', role: 'admin', quotas: null };

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

  const syncArchive = async (archive: KernelArchive): Promise<void> => {
    const apt = await openApt(join(deps.directory, archive.name), archive.sources);
    update({ step: `reading ${archive.name}` });
    await apt.update();
    const brought = await takeInSources(deps, archive, apt, report).catch((error: unknown) => {
      problem(archive.name, error);
      return [];
    });
    const ahead = archive.buildsAhead ? brought : [];
    for (const { name, release } of newestHeaders(archive, await apt.names('linux-headers-'))) {
      try {
        update({ step: `looking at ${release}` });
        const packages = await withDependencies(apt, name);
        const { digest, isNew } = await takeIn(archive.name, release, packages, apt);
        update({ kernels: [...view.kernels, { release, digest, isNew }] });
        // A kernel that was there before counts, too: a source may have been pushed since.
        await buildAll(digest, release, ahead);
      } catch (error) {
        problem(release, error);
      }
    }
  };

  const takeIn = async (
    archive: string,
    release: string,
    packages: readonly AptPackage[],
    apt: Apt,
  ): Promise<{ digest: Digest; isNew: boolean }> => {
    const origin = digestOf(
      packages.map(({ name, version, sha256 }) => `${name} ${version} ${sha256}\n`).join(''),
    );
    const known = await deps.db
      .selectFrom('archive_kernels')
      .select('kernel')
      .where('origin', '=', origin)
      .executeTakeFirst();
    if (known !== undefined) return { digest: known.kernel, isNew: false };
    update({ step: `taking in ${release}` });
    const blob = await apt.download(packages, (files) => storeTogether(deps, files));
    const { digest } = await ingestKernel(deps, blob, { ...SYNC, trust: 'archive' });
    await deps.db
      .insertInto('archive_kernels')
      .values({ origin, archive, release, kernel: digest, created_at: deps.now() })
      .execute();
    return { digest, isNew: true };
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
    const archives = await deps.db.selectFrom('archives').selectAll().execute();
    for (const { builds_ahead, ...archive } of archives) {
      try {
        await syncArchive({ ...archive, buildsAhead: builds_ahead === 1 });
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

const withDependencies = async (apt: Apt, name: string): Promise<readonly AptPackage[]> => {
  const first = await apt.show(name);
  const others = first.depends.filter((each) => /^linux-(headers|kbuild)-/.test(each));
  return [first, ...(await Promise.all(others.map((each) => apt.show(each))))];
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

const storeTogether = async (deps: KernelSyncDeps, files: readonly string[]): Promise<Digest> => {
  const tar = pack();
  const archive = Readable.from(tar, { objectMode: false });
  const storing = storeUpload(deps, archive, { limit: deps.blobLimit }, SYNC);
  storing.catch(() => tar.destroy());
  for (const file of files) {
    const { size } = await stat(file);
    const entry = tar.entry({ name: basename(file), size });
    await pipeline(createReadStream(file), entry as unknown as NodeJS.WritableStream);
  }
  tar.finalize();
  return (await storing).digest;
};
