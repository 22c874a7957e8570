import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { KilnError } from '../core/errors.ts';

/** A socket's path has at most 107 bytes (unix(7)), and one is `redis/redis.sock` in the directory. */
const LONGEST_PATH = 89;

/**
 * Makes sure that only one process at a time works in a directory. The lock is the kernel's (flock(1) of util-linux, on a file there that
 * this process holds open), which releases it when the process dies. The result unlocks it. Throws `conflict` if another process has it.
 */
export const lockDirectory = async (directory: string): Promise<() => Promise<void>> => {
  if (Buffer.byteLength(directory) > LONGEST_PATH) {
    throw new KilnError(
      'bad-request',
      `the path ${directory} is too long for the sockets in it; use one of at most 80 characters`,
    );
  }
  const file = await open(join(directory, 'lock'), 'a', 0o600);
  try {
    if (!(await flock(file)))
      throw new KilnError(
        'conflict',
        `another kilnd runs on ${directory}; stop it, or take another directory (--data)`,
      );
  } catch (error) {
    await file.close();
    throw error;
  }
  return () => file.close();
};

/** Takes the lock of an open file; `false` if another process has it. */
const flock = async (file: FileHandle): Promise<boolean> => {
  const child = spawn('flock', ['-n', '3'], { stdio: ['ignore', 'ignore', 'ignore', file.fd] });
  const [code] = (await once(child, 'close').catch((cause: unknown) => {
    throw new KilnError('unavailable', 'the program flock cannot be run; install util-linux', {
      cause,
    });
  })) as [number | null];
  return code === 0;
};
