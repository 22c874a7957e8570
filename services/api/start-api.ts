import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import type { X509Certificate } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Digest } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import type { Identity, Senders } from '../core/jobs/envelope.ts';
import { unlessBusy } from '../storage/alone.ts';
import type { BlobPlace } from '../storage/blob-place.ts';
import { openDatabase, type Database } from '../storage/database.ts';
import type { DatabaseAddress } from '../storage/database-address.ts';
import type { Log } from '../storage/log.ts';
import { openBlobs } from '../storage/open-blobs.ts';
import { openQueue } from '../storage/queues.ts';
import type { RedisAddress } from '../storage/redis.ts';
import { openMeters } from '../storage/meters.ts';
import { createRecordMemory } from '../storage/record-memory.ts';
import { openSignals } from '../storage/signals.ts';
import { createApp } from './http/app.ts';
import { createUsage } from './http/usage.ts';
import { boundedServer, type ConnectionLimits } from './http/connections.ts';
import { createCoordinator } from './coordinator/coordinator.ts';
import { createEvidence } from './coordinator/evidence.ts';
import { createArchives } from './coordinator/archives.ts';
import { createKernelDemand } from './coordinator/kernel-demand.ts';
import { createKernelIntake } from './coordinator/kernel-intake.ts';
import { createPacking } from './coordinator/packing.ts';
import { createPublishing } from './coordinator/publishing.ts';
import { createKernelSync } from './coordinator/kernel-sync.ts';
import { keepCollecting, type CollectingConfig } from './keep-collecting.ts';
import { openReadings } from './record/readings.ts';
import { provideAdminToken } from './record/tokens.ts';
import { endOldClaims } from './record/uploads.ts';

/** The API's settings (see `config.ts`). */
export interface ApiConfig {
  /** Where metrics are given. */
  readonly metrics: { readonly host: string; readonly port: number } | null;
  readonly redis: RedisAddress;
  readonly prefix: string;
  readonly own: Identity;
  readonly builders: Senders;
  readonly signers: Senders;
  /** The certificate of the key that modules are signed with. */
  readonly certificate: X509Certificate;
  /** The armored public key of package repositories. */
  readonly repositoryKey: string;
  readonly blobs: BlobPlace;
  readonly database: DatabaseAddress;
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  readonly adminTokenFile: string | null;
  readonly blobLimit: number;
  readonly limits: ConnectionLimits;
  /** Where apt keeps what it knows of the archives that are followed. */
  readonly archives: string;
  /** Hours between two looks at the followed archives; 0 for never. */
  readonly syncHours: number;
  readonly collecting: CollectingConfig;
  /** Digest of the in-container build script. */
  readonly script: Digest;
  /** Digest of `images/package`. */
  readonly packageScript: Digest;
}

const SWEEP_INTERVAL = 5_000;
const CLOSE_DEADLINE = 5_000;

/** Starts the API and its coordinator. `close` ends event streams, lets answers finish, and closes everything. */
export const startApi = async (
  config: ApiConfig,
  log: Log,
): Promise<{ url: string; close(): Promise<void> }> => {
  const db = await openDatabase(config.database);
  const blobs = await openBlobs(config.blobs);
  await blobs.clearArrivals();
  if (config.adminTokenFile !== null)
    await provideAdminToken(db, Date.now(), config.adminTokenFile);
  const { redis, prefix, own, builders, signers } = config;
  const evidence = createEvidence(blobs, config.certificate);
  await noteSigner(db, { key: evidence.key, certificate: config.certificate.toString() });
  const link = { redis, prefix, own };
  const builder = openQueue('builder', { ...link, senders: new Map() });
  const signer = openQueue('signer', { ...link, senders: new Map() });
  const outcomes = openQueue('outcomes', { ...link, senders: new Map([...builders, ...signers]) });
  const signals = await openSignals(redis, prefix, { kind: 'writes', own });
  const meters = await openMeters(config.metrics);
  openReadings(meters, { db, signals, certificate: config.certificate, now: Date.now });
  const memory = createRecordMemory(db, Date.now);
  const coordinating = {
    db,
    memory,
    meters,
    builder,
    signer,
    signals,
    signers,
    evidence,
    script: config.script,
    now: Date.now,
    log,
  };
  const packing = createPacking({ ...coordinating, blobs, packageScript: config.packageScript });
  const { certificate, repositoryKey } = config;
  const publishing = createPublishing({
    ...coordinating,
    blobs,
    packing,
    certificate,
    repositoryKey,
  });
  const coordinator = createCoordinator(coordinating, packing, publishing);

  const working = outcomes.work(
    (outcome, { sender, stopping: isStopping }) =>
      oncePossible(() => coordinator.accept(outcome, sender), isStopping),
    { concurrency: 1, onError: (error) => log.warn({ err: error }, 'queue') },
  );
  let isSweeping = false;
  const sweeper = setInterval(() => {
    if (isSweeping) return;
    isSweeping = true;
    unlessBusy(db, 'sweep', () =>
      Promise.all([coordinator.sweep(), endOldClaims({ db, blobs, now: Date.now })]),
    )
      .catch((error: unknown) => log.warn({ err: error }, 'sweep'))
      .finally(() => {
        isSweeping = false;
      });
  }, SWEEP_INTERVAL);

  const { blobLimit } = config;
  const archives = createArchives({ db, directory: config.archives, now: Date.now });
  const intake = createKernelIntake({ db, blobs, blobLimit, now: Date.now });
  const kernelDemand = createKernelDemand({ db, archives, intake, now: Date.now, log });
  const kernelSync = createKernelSync({
    db,
    blobs,
    coordinator,
    archives,
    intake,
    blobLimit,
    now: Date.now,
    log,
  });
  const syncer =
    config.syncHours === 0
      ? null
      : setInterval(() => {
          // Half of the time: the last run was another API's, at its own hours.
          kernelSync
            .startAfter(config.syncHours * 1_800_000)
            .catch((error: unknown) => log.warn({ err: error }, 'kernel sync'));
        }, config.syncHours * 3_600_000);

  const stopping = new AbortController();
  const app = createApp({
    db,
    memory,
    meters,
    blobs,
    signals,
    coordinator,
    packing,
    publishing,
    repositoryKey,
    kernelSync,
    kernelDemand,
    script: config.script,
    now: Date.now,
    log,
    blobLimit,
    pace: config.limits.pace,
    usage: createUsage(db, Date.now, blobLimit),
    stopping: stopping.signal,
  });
  const server = boundedServer(app, config.limits);
  server.listen(config.port, config.host);
  await once(server, 'listening');
  const collecting = keepCollecting({ db, blobs, now: Date.now }, config.collecting, log);
  const { address, port, family } = server.address() as AddressInfo;

  return {
    url: `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`,
    async close() {
      clearInterval(sweeper);
      if (syncer !== null) clearInterval(syncer);
      stopping.abort();
      const closed = once(server, 'close');
      server.close();
      // Idle connections are closed repeatedly: an event stream that ends leaves one behind.
      const idler = setInterval(() => server.closeIdleConnections(), 50);
      const deadline = setTimeout(() => server.closeAllConnections(), CLOSE_DEADLINE);
      await closed;
      clearInterval(idler);
      clearTimeout(deadline);
      await Promise.all([working.stop(), collecting.stop(), within(publishing.settled())]);
      await Promise.all([builder.close(), signer.close(), outcomes.close()]);
      signals.close();
      await meters.close();
      // A look at an archive may hold its lock for as long as a download takes; it ends with the process.
      await within(db.destroy());
    },
  };
};

/** Notes the configured certificate as the present signer. */
const noteSigner = async (
  db: Database,
  signer: { readonly key: string; readonly certificate: string },
): Promise<void> => {
  const seen_at = Date.now();
  await db
    .insertInto('signers')
    .values({ ...signer, seen_at })
    .onConflict((conflict) => conflict.column('key').doUpdateSet({ seen_at }))
    .execute();
};

/** Milliseconds between two tries. */
const PAUSE = 1000;

/** Does what has to be done once the record answers and has room: an outcome may be the work of hours. Throws the reason where it is `stopping` before. */
const oncePossible = async (act: () => Promise<void>, stopping: AbortSignal): Promise<void> => {
  for (;;) {
    try {
      return await act();
    } catch (error) {
      const isPassing =
        error instanceof KilnError && ['unavailable', 'storage-full'].includes(error.code);
      if (!isPassing) throw error;
      await sleep(PAUSE, undefined, { signal: stopping }).catch(() => stopping.throwIfAborted());
    }
  }
};

/** Waits for something, but not for long. */
const within = (act: Promise<void>): Promise<void> =>
  Promise.race([act, sleep(CLOSE_DEADLINE, undefined, { ref: false })]);
