import { setTimeout as sleep } from 'node:timers/promises';

const PAUSE = 100;
/** Milliseconds after which even a slow machine would be done. */
const LIMIT = 300_000;

/** Waits until something is so; throws, naming it, where it never will be. */
export const until = async (
  what: string,
  isSo: () => boolean | Promise<boolean>,
): Promise<void> => {
  const deadline = performance.now() + LIMIT;
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`${what}: not after ${LIMIT / 1000} s`);
    await sleep(PAUSE);
  }
};
