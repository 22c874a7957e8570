import type { Digest } from '../../core/digest.ts';
import type { Blobs } from '../../storage/blobs.ts';
import type { Database } from '../../storage/database.ts';
import type { Log } from '../../storage/log.ts';
import type { Meters } from '../../storage/meters.ts';
import type { RecordMemory } from '../../storage/record-memory.ts';
import type { Signals } from '../../storage/signals.ts';
import type { Coordinator } from '../coordinator/coordinator.ts';
import type { Packing } from '../coordinator/packing.ts';
import type { Publishing } from '../coordinator/publishing.ts';
import type { Pace } from './pace.ts';
import type { Usage } from './usage.ts';
import type { KernelDemand } from '../coordinator/kernel-demand.ts';
import type { KernelSync } from '../coordinator/kernel-sync.ts';

/** The routes' dependencies. */
export interface ApiDeps {
  readonly memory: RecordMemory;
  readonly meters: Meters;
  readonly db: Database;
  readonly blobs: Blobs;
  readonly signals: Signals;
  readonly coordinator: Coordinator;
  readonly packing: Packing;
  readonly publishing: Publishing;
  /** The armored public key of repositories. */
  readonly repositoryKey: string;
  readonly kernelSync: KernelSync;
  readonly kernelDemand: KernelDemand;
  /** Digest of the in-container build script. */
  readonly script: Digest;
  readonly now: () => number;
  readonly log: Log;
  /** The largest blob taken, in bytes. */
  readonly blobLimit: number;
  readonly pace: Pace;
  readonly usage: Usage;
  /** Aborted when the service is stopping: ends the event streams. */
  readonly stopping: AbortSignal;
}
