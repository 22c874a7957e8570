import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { KilnError } from '../core/errors.ts';

/**
 * Makes sure that only one process at a time works in a directory. The lock is the kernel's (flock(1) of util-linux, on a file there that
 * this process holds open), which releases it when the process dies. Gives what unlocks it. Throws `conflict` with the sentence `refusal`
 * where another process has it and keeps it for `patience` seconds.
 */
export const lockDirectory = async (
  directory: string,
  refusal: string,
  patience = 0,
): Promise<() => Promise<void>> => {
  const file = await open(join(directory, 'lock'), 'a', 0o600);
  try {
    if (!(await flock(file, patience))) throw new KilnError('conflict', refusal);
  } catch (error) {
    await file.close();
    throw error;
  }
  return () => file.close();
};

/** Takes the lock of an open file; `false` if another process has it. */
const flock = async (file: FileHandle, patience: number): Promise<boolean> => {
  const child = spawn('flock', ['-w', String(patience), '3'], {
    stdio: ['ignore', 'ignore', 'ignore', file.fd],
  });
  const [code] = (await once(child, 'close').catch((cause: unknown) => {
    throw new KilnError('unavailable', 'the program flock cannot be run; install util-linux', {
      cause,
    });
  })) as [number | null];
  return code === 0;
};
