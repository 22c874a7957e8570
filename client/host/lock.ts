import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { KilnError } from '../../services/core/errors.ts';
import { mustLieInside, type Host } from './host.ts';
import { PLAIN_ENVIRONMENT, shareDescriptor } from './programs.ts';
import { forEverybody } from './umask.ts';
import { refusedWrite } from './writable.ts';

/** Seconds that a command waits for another one on the same host. */
const PATIENCE = 60;

/**
 * Runs something while no other kiln changes this host. The lock is the kernel's (flock(1) of util-linux, on a file that this process
 * holds open): the kernel releases it when this process and all programs that it started have ended, however they end. Throws
 * `install-failed` after a minute of waiting.
 */
export const withLock = async <T>(host: Host, work: () => Promise<T>): Promise<T> => {
  await mustLieInside(host, 'var/lib/kiln');
  const directory = join(host.root, 'var/lib/kiln');
  await forEverybody(() => mkdir(directory, { recursive: true })).catch((cause: unknown) => {
    throw cannotWrite(cause, directory);
  });
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
  const file = await open(join(directory, 'lock'), flags, 0o600).catch((cause: unknown) => {
    throw cannotWrite(cause, directory);
  });
  try {
    if (!(await flock(file.fd, PATIENCE)))
      throw new KilnError(
        'install-failed',
        `another kiln has been changing this host for ${PATIENCE} s; try again when it has ended`,
      );
    shareDescriptor(file.fd);
    return await forEverybody(work);
  } finally {
    shareDescriptor(null);
    await file.close();
  }
};

const cannotWrite = (cause: unknown, directory: string): KilnError => {
  const words = cause instanceof Error ? cause.message : String(cause);
  const refused = refusedWrite(cause, directory) ?? `${directory} cannot be written (${words})`;
  return new KilnError('install-failed', refused, { cause });
};

/** Whether a kiln is changing this host just now; `false` also where this user may not look at the lock. */
export const isBeingChanged = async (host: Host): Promise<boolean> => {
  const file = await open(join(host.root, 'var/lib/kiln/lock'), constants.O_RDONLY).catch(
    () => null,
  );
  if (file === null) return false;
  try {
    return !(await flock(file.fd, 0));
  } finally {
    await file.close();
  }
};

/** Takes the lock of an open file; `false` if another process has it still after some seconds. */
const flock = (descriptor: number, seconds: number): Promise<boolean> =>
  new Promise((resolve, reject) => {
    const child = spawn('flock', ['-w', String(seconds), '3'], {
      stdio: ['ignore', 'ignore', 'ignore', descriptor],
      cwd: '/',
      env: PLAIN_ENVIRONMENT,
    });
    child.once('error', (cause) =>
      reject(
        new KilnError('install-failed', 'the program flock cannot be run; install util-linux', {
          cause,
        }),
      ),
    );
    child.once('close', (code) => resolve(code === 0));
  });
