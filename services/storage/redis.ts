import { Redis } from 'ioredis';
import { KilnError } from '../core/errors.ts';

/** Where Redis is: a socket's path or a host. Made by `parseRedisAddress`. */
export type RedisAddress =
  | { readonly path: string }
  | {
      readonly host: string;
      readonly port: number;
      readonly username?: string;
      readonly password?: string;
    };

/** Reads `unix:/path/to.sock` or `redis://[user[:password]@]host:port`. */
export const parseRedisAddress = (text: string): RedisAddress => {
  if (text.startsWith('unix:')) return { path: text.slice('unix:'.length) };
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url?.protocol !== 'redis:') {
    throw new KilnError(
      'bad-request',
      `${JSON.stringify(text)} is not a Redis address; use unix:/path/to.sock or redis://host:port`,
    );
  }
  return {
    host: url.hostname,
    port: Number(url.port || '6379'),
    ...(url.username === '' ? {} : { username: decodeURIComponent(url.username) }),
    ...(url.password === '' ? {} : { password: decodeURIComponent(url.password) }),
  };
};

/** Options for a connection that waits for Redis to come back, however long that takes. */
export const patientOptions = (address: RedisAddress) => ({
  ...address,
  maxRetriesPerRequest: null,
  retryStrategy: (times: number): number => Math.min(times * 100, 1000),
});

/** A connection that comes back by itself. Its errors while Redis is away are expected and not reported one by one. */
export const connectRedis = (address: RedisAddress): Redis => {
  const redis = new Redis(patientOptions(address));
  redis.on('error', () => {});
  return redis;
};
