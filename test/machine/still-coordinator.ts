import { generateKeyPairSync } from 'node:crypto';
import { createCoordinator, type Coordinator } from '../../services/api/coordinator/coordinator.ts';
import type { Evidence } from '../../services/api/coordinator/evidence.ts';
import { digestOf } from '../../services/core/digest.ts';
import type { BuilderJob, Outcome } from '../../services/core/jobs/jobs.ts';
import type { Database } from '../../services/storage/database.ts';
import { openLog } from '../../services/storage/log.ts';
import { NO_METERS } from '../../services/storage/meters.ts';
import { createRecordMemory } from '../../services/storage/record-memory.ts';
import type { WorkQueue } from '../../services/storage/queues.ts';
import type { Signals } from '../../services/storage/signals.ts';

type Run = { readonly build: string; readonly attempt: number };

/** A queue that keeps its jobs and has no workers. */
export interface StillQueue<T> extends WorkQueue<T> {
  readonly jobs: ReadonlyMap<string, T>;
}

const stillQueue = <T>(): StillQueue<T> => {
  const jobs = new Map<string, T>();
  return {
    jobs,
    async add(id, job) {
      if (!jobs.has(id)) jobs.set(id, job);
    },
    has: async (id) => jobs.has(id),
    async remove(id) {
      jobs.delete(id);
    },
    work: () => ({ stop: async () => {} }),
    close: async () => {},
  };
};

/** Signals that nobody hears; runs that are to be cancelled are kept. */
const stillSignals = (
  announce: Signals['announce'],
): Signals & { readonly cancelled: ReadonlySet<string> } => {
  const cancelled = new Set<string>();
  const unhook = (): void => {};
  return {
    cancelled,
    announce,
    onChange: () => unhook,
    async cancel(run) {
      cancelled.add(run);
    },
    isCancelled: async (run) => cancelled.has(run),
    onCancel: () => unhook,
    appendLog: async () => {},
    endLog: async () => {},
    readLog: async () => [],
    offerSlots: async () => {},
    slots: async () => 100,
    ping: async () => {},
    close: () => {},
  };
};

/** Bytes that nobody looks at. */
const unseen: Evidence = {
  key: 'key',
  ofModules: async () => {},
  difference: async () => [],
  ofBuilt: async () => {},
  ofSigned: async () => {},
};

/** The keys of those who report to it. */
const BUILDER = 'builder';
const SIGNER = 'signer';

/** A coordinator whose only worker is the test, which reports every outcome. */
export interface StillCoordinator extends Coordinator {
  /** Reports that a builder began a run, and with what outcome it ended. */
  begun(run: Run, outcome?: Outcome): Promise<void>;
  /** Reports the signer's outcome. */
  signed(outcome: Outcome): Promise<void>;
  readonly builder: StillQueue<BuilderJob>;
  readonly cancelled: ReadonlySet<string>;
}

const unwanted = (): Promise<never> => Promise.reject(new Error('no package is made here'));

/** Makes one. Builds are made with the script `digestOf('script')`. */
export const stillCoordinator = (
  db: Database,
  announce: Signals['announce'] = async () => {},
): StillCoordinator => {
  const builder = stillQueue<BuilderJob>();
  const signals = stillSignals(announce);
  const coordinator = createCoordinator(
    {
      db,
      memory: createRecordMemory(db, Date.now),
      meters: NO_METERS,
      builder,
      signer: stillQueue(),
      signals,
      signers: new Map([[SIGNER, generateKeyPairSync('ed25519').publicKey]]),
      evidence: unseen,
      script: digestOf('script'),
      now: () => 2,
      log: openLog('api', 'silent'),
    },
    { enqueue: unwanted, take: unwanted },
    { poke: () => {}, sweep: async () => {}, take: unwanted },
  );
  return {
    ...coordinator,
    builder,
    cancelled: signals.cancelled,
    async begun(run, outcome) {
      await coordinator.accept({ kind: 'started', ...run }, BUILDER);
      if (outcome !== undefined) await coordinator.accept(outcome, BUILDER);
    },
    signed: (outcome) => coordinator.accept(outcome, SIGNER),
  };
};
