import { setTimeout as sleep } from 'node:timers/promises';

const PAUSE = 100;

/** Waits until something is so, which is not a question of the machine's speed: after `seconds` it never will be, and this throws. */
export const until = async (
  what: string,
  isSo: () => boolean | Promise<boolean>,
  seconds = 100,
): Promise<void> => {
  const deadline = performance.now() + seconds * 1000;
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`${what}: not after ${seconds} s`);
    await sleep(PAUSE);
  }
};
