import { fork, type ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { KilnError } from '../core/errors.ts';

/** A child that is kept running until it is stopped. */
export interface Kept {
  /** What it said it listens on, if anything. */
  readonly url?: string | undefined;
  /** Ends it with SIGTERM, and SIGKILL after a deadline. */
  stop(): Promise<void>;
}

const STOP_DEADLINE = 15_000;
const LONGEST_PAUSE = 10_000;

/**
 * Starts a role as a process and starts it again when it dies, after a pause that doubles while it keeps dying.
 * Resolves when it first says that it is ready; rejects with `unavailable` if it ends before.
 * A child whose parent is gone sees its channel close and ends.
 */
export const keepRunning = async (
  role: string,
  module: string,
  args: readonly string[],
  environment: NodeJS.ProcessEnv,
  say: (line: string) => void,
): Promise<Kept> => {
  let isStopping = false;
  let child: ChildProcess;
  let pause = 250;
  let url: string | undefined;

  const launch = (settings: NodeJS.ProcessEnv): Promise<void> =>
    new Promise((resolve, reject) => {
      child = fork(module, args, { env: settings, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
      let isReady = false;
      child.once('message', (message) => {
        isReady = true;
        url = (message as { url?: string }).url;
        say(`kilnd: ${role} is ready (process ${child.pid})`);
        resolve();
      });
      child.once('exit', (code, signal) => {
        if (!isReady)
          reject(
            new KilnError('unavailable', `the ${role} did not start; its messages above say why`),
          );
        if (isStopping) return;
        say(`kilnd: ${role} ended (${signal ?? `exit status ${code}`})`);
        if (isReady) void again();
      });
    });

  const again = async (): Promise<void> => {
    while (!isStopping) {
      const started = Date.now();
      await sleep(pause);
      if (isStopping) return;
      // A restarted role keeps its first port, which clients know.
      const port = url === undefined ? {} : { KILN_PORT: new URL(url).port };
      const isUp = await launch({ ...environment, ...port }).then(
        () => true,
        () => false,
      );
      pause =
        isUp && Date.now() - started > LONGEST_PAUSE ? 250 : Math.min(pause * 2, LONGEST_PAUSE);
      if (isUp) return;
    }
  };

  await launch(environment);
  return {
    url,
    async stop() {
      isStopping = true;
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      const deadline = setTimeout(() => child.kill('SIGKILL'), STOP_DEADLINE);
      await ended;
      clearTimeout(deadline);
    },
  };
};
