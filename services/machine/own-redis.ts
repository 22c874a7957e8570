import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { KilnError } from '../core/errors.ts';
import type { Kept } from './keep-running.ts';

const RESTART_PAUSE = 250;
const START_DEADLINE = 20_000;

/**
 * Starts a Redis of Kiln's own on a socket below `directory`, append-only, reachable by this user alone, and starts it
 * again when it dies. One that a killed kilnd left behind is asked to end first.
 */
export const startRedis = async (
  directory: string,
): Promise<Kept & { readonly address: string }> => {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const socket = join(directory, 'redis.sock');
  await endLeftover(socket);
  let isStopping = false;
  let child = launch(directory, socket);

  const watch = (): void => {
    child.once('exit', () => {
      if (isStopping) return;
      setTimeout(() => {
        if (isStopping) return;
        child = launch(directory, socket);
        watch();
      }, RESTART_PAUSE);
    });
  };
  await waitForAnswer(child, socket);
  watch();

  return {
    address: `unix:${socket}`,
    async stop() {
      isStopping = true;
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    },
  };
};

const SETTINGS = {
  port: '0',
  unixsocketperm: '700',
  appendonly: 'yes',
  appendfsync: 'everysec',
  save: '',
  'maxmemory-policy': 'noeviction',
  daemonize: 'no',
  loglevel: 'warning',
};

const launch = (directory: string, socket: string): ChildProcess => {
  const settings = Object.entries({ ...SETTINGS, dir: directory, unixsocket: socket });
  const child = spawn(
    'redis-server',
    settings.flatMap(([name, value]) => [`--${name}`, value]),
    {
      stdio: ['ignore', 'ignore', 'inherit'],
    },
  );
  child.on('error', () => {});
  return child;
};

const waitForAnswer = async (child: ChildProcess, socket: string): Promise<void> => {
  const deadline = Date.now() + START_DEADLINE;
  while (Date.now() < deadline) {
    if (child.pid === undefined) {
      throw new KilnError(
        'unavailable',
        'redis-server is not installed; run apt-get install redis-server',
      );
    }
    if (child.exitCode !== null)
      throw new KilnError('unavailable', 'redis-server ended at once; its messages above say why');
    if (await answers(socket)) return;
    await sleep(50);
  }
  throw new KilnError(
    'unavailable',
    `redis-server did not answer within ${START_DEADLINE / 1000} seconds; its messages above may say why`,
  );
};

const connectOnce = (socket: string): Redis => {
  const redis = new Redis({
    path: socket,
    lazyConnect: true,
    retryStrategy: () => null,
    maxRetriesPerRequest: 0,
  });
  redis.on('error', () => {});
  return redis;
};

const answers = async (socket: string): Promise<boolean> => {
  const redis = connectOnce(socket);
  try {
    await redis.connect();
    return (await redis.ping()) === 'PONG';
  } catch {
    return false;
  } finally {
    redis.disconnect();
  }
};

const endLeftover = async (socket: string): Promise<void> => {
  if (!(await answers(socket))) return;
  const redis = connectOnce(socket);
  await redis.connect();
  await redis.shutdown().catch(() => {});
  redis.disconnect();
  const deadline = Date.now() + START_DEADLINE;
  while ((await answers(socket)) && Date.now() < deadline) await sleep(50);
};
