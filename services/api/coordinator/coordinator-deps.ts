import type { Digest } from '../../core/digest.ts';
import type { Senders } from '../../core/jobs/envelope.ts';
import type { BuilderJob, SignerJob } from '../../core/jobs/jobs.ts';
import type { Database } from '../../storage/database.ts';
import type { Log } from '../../storage/log.ts';
import type { WorkQueue } from '../../storage/queues.ts';
import type { Meters } from '../../storage/meters.ts';
import type { RecordMemory } from '../../storage/record-memory.ts';
import type { Signals } from '../../storage/signals.ts';
import type { Evidence } from './evidence.ts';

/** The coordinator's dependencies. */
export interface CoordinatorDeps {
  readonly meters: Meters;
  readonly db: Database;
  readonly memory: RecordMemory;
  readonly builder: WorkQueue<BuilderJob>;
  readonly signer: WorkQueue<SignerJob>;
  readonly signals: Signals;
  /** The signer's keys: outcomes by other senders are builders'. */
  readonly signers: Senders;
  readonly evidence: Evidence;
  /** Digest of the in-container build script. */
  readonly script: Digest;
  readonly now: () => number;
  readonly log: Log;
}
