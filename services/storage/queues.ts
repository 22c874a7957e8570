import { Queue, WaitingError, Worker } from 'bullmq';
import type { BuilderJob, Outcome, SignJob } from '../core/jobs.ts';
import { patientOptions, type RedisAddress } from './redis.ts';

/** The three queues and what travels on each. SQL is the truth; a queue only wakes a worker. */
export interface Messages {
  readonly builder: BuilderJob;
  readonly signer: SignJob;
  readonly outcomes: Outcome;
}

/** How a handler learns about the run it is. */
export interface JobRun {
  /** How often this job was begun, this run included; more than once after a failure or a killed worker. */
  readonly starts: number;
  /** Whether a failure of this run is final. */
  readonly isLast: boolean;
  /** Aborted when the worker is being stopped. A handler that ends with `Interrupted` is run again by the next worker. */
  readonly stopping: AbortSignal;
}

/** Thrown by a handler that gave up because its worker is stopping. */
export class Interrupted extends Error {
  constructor() {
    super('interrupted: the worker is stopping');
    this.name = 'Interrupted';
  }
}

/** One queue, for adding to it and for working on it. */
export interface WorkQueue<T> {
  /** Adds a job under a name; a job of that name that is still there is kept instead. Names hold no `:`. */
  add(id: string, job: T): Promise<void>;
  has(id: string): Promise<boolean>;
  /** Takes a job back that no worker has begun. */
  remove(id: string): Promise<void>;
  /** Works on jobs, on one of a name at a time. */
  work(
    handler: (job: T, run: JobRun) => Promise<void>,
    options: { concurrency: number; onError: (error: Error) => void },
  ): Working;
  close(): Promise<void>;
}

/** A worker that is running. `stop` lets handlers end (see `JobRun.stopping`) and then closes. */
export interface Working {
  stop(): Promise<void>;
}

const TRIES = 3;

/** Opens one queue below `prefix`, so that several Kilns (and every test) can share one Redis. */
export const openQueue = <Name extends keyof Messages>(
  name: Name,
  address: RedisAddress,
  prefix: string,
): WorkQueue<Messages[Name]> => {
  const connection = patientOptions(address);
  const queue = new Queue<Messages[Name]>(name, {
    connection,
    prefix,
    defaultJobOptions: {
      attempts: TRIES,
      backoff: { type: 'exponential', delay: 1000 },
      removeOnComplete: true,
      removeOnFail: true,
    },
  });
  queue.on('error', () => {});

  return {
    async add(id, job) {
      await (queue as Queue).add(name, job, { jobId: id });
    },
    async has(id) {
      return (await queue.getJob(id)) !== undefined;
    },
    async remove(id) {
      await queue.remove(id).catch(() => 0);
    },
    work(handler, { concurrency, onError }) {
      const stopping = new AbortController();
      // A queue that lost a job, or its lock on it, gives it out again while it is at work here: that joins what is under way.
      const underWay = new Map<string, Promise<void>>();
      const worker = new Worker<Messages[Name]>(
        name,
        async (job, token) => {
          const id = job.id ?? '';
          const begin = (): Promise<void> =>
            handler(job.data, {
              starts: job.attemptsStarted,
              isLast: job.attemptsMade + 1 >= TRIES,
              stopping: stopping.signal,
            }).finally(() => underWay.delete(id));
          const running = underWay.get(id) ?? begin();
          underWay.set(id, running);
          try {
            await running;
          } catch (error) {
            if (!(error instanceof Interrupted)) throw error;
            await job.moveToWait(token);
            throw new WaitingError();
          }
        },
        {
          connection,
          prefix,
          concurrency,
          lockDuration: 10_000,
          stalledInterval: 5_000,
          maxStalledCount: 1000,
        },
      );
      worker.on('error', onError);
      worker.on('failed', (_job, error) => onError(error));
      return {
        async stop() {
          stopping.abort(new Interrupted());
          await worker.close();
        },
      };
    },
    close: () => queue.close(),
  };
};
