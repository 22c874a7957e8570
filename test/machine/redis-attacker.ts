import { createHash, generateKeyPairSync } from 'node:crypto';
import { join } from 'node:path';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { keyIdOf, seal, type Identity } from '../../services/core/jobs/envelope.ts';

/** Somebody who can do all that Redis lets one do, on the Redis of a Kiln that runs on one machine, and has no key of Kiln's. */
export interface RedisAttacker {
  readonly redis: Redis;
  readonly prefix: string;
  /** Puts a job on a queue as it is. */
  add(queue: string, name: string, data: unknown): Promise<void>;
  /** Puts a message on a queue as it would be without signatures, and signed with a key of the attacker's own. */
  forge(queue: string, name: string, message: object): Promise<void>;
  /** What a genuine job on a queue holds. */
  steal(queue: string, name: string): Promise<{ readonly payload: string } | null>;
  close(): Promise<void>;
}

/** An attacker on the Redis of the Kiln that runs on a data directory. */
export const redisAttacker = (data: string): RedisAttacker => {
  const path = join(data, 'redis/redis.sock');
  const name = createHash('sha256').update(data).digest('hex').slice(0, 12);
  const prefix = `kiln-${name}`;
  const redis = new Redis({ path, maxRetriesPerRequest: null });
  const queues = new Map<string, Queue>();
  const queueOf = (queue: string): Queue => {
    const open = queues.get(queue) ?? new Queue(queue, { connection: { path }, prefix });
    queues.set(queue, open);
    return open;
  };
  const add: RedisAttacker['add'] = async (queue, id, message) => {
    await queueOf(queue).add(queue, message, { jobId: id, removeOnComplete: true });
  };
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const stranger: Identity = { id: keyIdOf(publicKey), privateKey, publicKey };
  return {
    redis,
    prefix,
    add,
    async forge(queue, id, message) {
      await add(queue, id, message);
      const address = { place: queue, name: `${id}-2` };
      await add(queue, address.name, seal(JSON.stringify(message), address, stranger));
    },
    async steal(queue, id) {
      const text = await redis.hget(`${prefix}:${queue}:${id}`, 'data');
      return text === null ? null : (JSON.parse(text) as { payload: string });
    },
    async close() {
      for (const queue of queues.values()) await queue.close();
      redis.disconnect();
    },
  };
};
