import { Queue, WaitingError, Worker, type Job, type JobsOptions } from 'bullmq';
import { z } from 'zod';
import { seal, unseal, type Identity, type Senders } from '../core/jobs/envelope.ts';
import { BuilderJob, Outcome, SignerJob } from '../core/jobs/jobs.ts';
import { patientOptions, type RedisAddress } from './redis.ts';

/** The three queues and what travels on each. SQL is the truth; a queue only wakes a worker. */
const MESSAGES = { builder: BuilderJob, signer: SignerJob, outcomes: Outcome };
/** A queue’s name. */
export type QueueName = keyof typeof MESSAGES;
/** The message that travels on a queue. */
export type Message<Name extends QueueName> = z.infer<(typeof MESSAGES)[Name]>;

/** Where a queue is, and who is who on it. Redis carries messages and vouches for none. */
export interface QueueLink {
  readonly redis: RedisAddress;
  /** So that several Kilns (and every test) can share one Redis. */
  readonly prefix: string;
  /** The key that this end signs its messages with. */
  readonly own: Identity;
  /** The senders whose messages are read at this end. */
  readonly senders: Senders;
}

/** How a handler learns about the run it is. */
export interface JobRun {
  /** The key of who sent the message. */
  readonly sender: string;
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
  /**
   * Adds a job under a name; a job of that name that is still there, and that this end added, is kept instead. Names hold no `:`.
   * What is late goes after all that is not, if no worker has begun it.
   */
  add(id: string, job: T, isLate?: boolean): Promise<void>;
  /** Whether a job of that name is there that this end added. */
  has(id: string): Promise<boolean>;
  /** Takes a job back that no worker has begun. */
  remove(id: string): Promise<void>;
  /** Works on jobs, on one of a name at a time. What no sender wrote, or is malformed, is dropped, and `onError` told why. */
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

/** A message that no handler gets. It is not tried again. */
class Dropped extends Error {
  constructor(queue: string, id: string, cause: unknown) {
    const [issue] = cause instanceof z.ZodError ? cause.issues : [];
    const why =
      issue === undefined
        ? cause instanceof SyntaxError
          ? 'it is no JSON'
          : String(cause instanceof Error ? cause.message : cause)
        : `${issue.path.join('.')}: ${issue.message}`;
    super(`dropped ${JSON.stringify(id.slice(0, 80))} from ${queue}: ${why}`);
    this.name = 'Dropped';
  }
}

/** Whether BullMQ failed because a job is not of the form that it writes. */
const isUnreadable = (error: unknown): boolean =>
  error instanceof SyntaxError || (error instanceof Error && error.message.startsWith('WRONGTYPE'));

const OPEN: ReadonlySet<string> = new Set(['waiting', 'active', 'delayed', 'prioritized']);
const TRIES = 3;
const OPTIONS: JobsOptions = {
  attempts: TRIES,
  backoff: { type: 'exponential', delay: 1000 },
  removeOnComplete: true,
  removeOnFail: true,
};

/** A worker that goes by its own options, and takes a job that is no JSON for an empty one: what stands in Redis may be anybody's. */
class WaryWorker extends Worker<unknown> {
  protected override createJob(...[json, id]: Parameters<Worker['createJob']>): Job {
    const own = { ...json, opts: OPTIONS };
    try {
      return super.createJob(own, id);
    } catch {
      return super.createJob({ ...own, data: 'null' }, id);
    }
  }
}

/** Opens one queue. */
export const openQueue = <Name extends QueueName>(
  name: Name,
  { redis, prefix, own, senders }: QueueLink,
): WorkQueue<Message<Name>> => {
  const connection = patientOptions(redis);
  const schema = MESSAGES[name] as unknown as z.ZodType<Message<Name>>;
  const queue = new Queue<unknown>(name, { connection, prefix, defaultJobOptions: OPTIONS });
  queue.on('error', () => {});

  /** What a job says, and who says it. Throws `Dropped`. */
  const read = (
    { id = '', data }: Pick<Job<unknown>, 'id' | 'data'>,
    from: Senders,
  ): { message: Message<Name>; sender: string } => {
    try {
      const { payload, sender } = unseal(data, { place: name, name: id }, from);
      return { message: schema.parse(JSON.parse(payload)), sender };
    } catch (error) {
      throw new Dropped(name, id, error);
    }
  };

  const itself: Senders = new Map([[own.id, own.publicKey]]);
  /** What is there under a name: what this end added and is still to be done, or something else. */
  const lookUp = async (id: string): Promise<'own' | 'other' | 'nothing'> => {
    try {
      const job = await queue.getJob(id);
      if (job === undefined) return 'nothing';
      read(job, itself);
      return OPEN.has(await job.getState()) ? 'own' : 'other';
    } catch (error) {
      // BullMQ cannot read it either.
      if (error instanceof Dropped || isUnreadable(error)) return 'other';
      throw error;
    }
  };

  /** Removes a job that BullMQ gave out and cannot read: it would give it out again and again. */
  const removeUnreadable = async (onError: (error: Error) => void): Promise<void> => {
    try {
      const client = await queue.backend.client;
      for (const id of await client.lrange(queue.toKey('active'), 0, 99)) {
        const cause = await queue.getJob(id).then(
          () => null,
          (error: Error) => error,
        );
        if (cause === null || !isUnreadable(cause)) continue;
        await client.del(queue.toKey(id), `${queue.toKey(id)}:lock`);
        onError(new Dropped(name, id, cause));
      }
    } catch (error) {
      onError(error instanceof Error ? error : new Error(String(error)));
    }
  };

  return {
    async add(id, job, isLate) {
      const payload = JSON.stringify(schema.parse(job));
      if ((await lookUp(id)) === 'other') await queue.remove(id).catch(() => 0);
      const priority = isLate === true ? 1 : 0;
      const sealed = seal(payload, { place: name, name: id }, own);
      await queue.add(name, sealed, { jobId: id, priority });
      if (isLate === undefined) return;
      const there = await queue.getJob(id);
      if (there !== undefined && there.priority !== priority)
        await there.changePriority({ priority });
    },
    has: async (id) => (await lookUp(id)) === 'own',
    async remove(id) {
      await queue.remove(id).catch(() => 0);
    },
    work(handler, { concurrency, onError }) {
      const stopping = new AbortController();
      // A queue that lost a job, or its lock on it, gives it out again while it is at work here: that joins what is under way.
      const underWay = new Map<string, Promise<void>>();
      const begin = (job: Job<unknown>): Promise<void> => {
        const { message, sender } = read(job, senders);
        return handler(message, {
          sender,
          starts: job.attemptsStarted,
          isLast: job.attemptsMade + 1 >= TRIES,
          stopping: stopping.signal,
        });
      };
      const worker = new WaryWorker(
        name,
        async (job, token) => {
          const id = job.id ?? '';
          const running =
            underWay.get(id) ?? (async () => begin(job))().finally(() => underWay.delete(id));
          underWay.set(id, running);
          try {
            await running;
          } catch (error) {
            if (error instanceof Dropped) return onError(error);
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
      worker.on('error', (error) => {
        if (isUnreadable(error)) void removeUnreadable(onError);
        else onError(error);
      });
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
