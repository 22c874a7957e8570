import { setTimeout as sleep } from 'node:timers/promises';
import { CallFailed, type Fault } from './fault.ts';

/** How long a command keeps trying to reach the service, and who hears of it. One for all its calls. */
export interface Patience {
  /** 0 is one try. */
  readonly seconds: number;
  /** Aborted by ^C. */
  readonly signal: AbortSignal;
  say(text: string): void;
  /** Something came through: from now on patience counts anew. */
  renew(): void;
  /** Milliseconds since the first failure after that. Called upon a failure. */
  outage(): number;
}

/** Makes a command's patience, with a monotonic clock in milliseconds. */
export const createPatience = (
  given: Pick<Patience, 'seconds' | 'signal' | 'say'>,
  clock: () => number = () => performance.now(),
): Patience => {
  let since: number | null = null;
  return {
    ...given,
    renew() {
      since = null;
    },
    outage() {
      since ??= clock();
      return clock() - since;
    },
  };
};

/** How the tries of one call stand after the last of them failed. */
export interface Trials {
  /** Failures in a row, at least 1. */
  readonly failures: number;
  /** Failures in all; more than `failures` where something came through between them. */
  readonly total: number;
  /** Milliseconds since anything of the command's began to fail and nothing has come through. */
  readonly elapsed: number;
}

const FIRST_PAUSE = 250;
const LONGEST_PAUSE = 10_000;
const MOST_TRIES = 1000;

/**
 * Milliseconds to wait before the next try, `null` to give up. Exponential with full jitter: anything up to a bound that doubles
 * from 0.25 to 10 seconds, so that a fleet does not come back at one moment; what the other side asks for is kept. `random` is in [0, 1).
 */
export const nextPause = (
  fault: Fault,
  isRepeatable: boolean,
  trials: Trials,
  seconds: number,
  random: number,
): number | null => {
  const left = seconds * 1000 - trials.elapsed;
  if (!fault.mayPass || (fault.mayBeDone && !isRepeatable)) return null;
  if (left <= 0 || trials.total >= MOST_TRIES) return null;
  const bound = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** Math.min(trials.failures - 1, 10));
  const asked = (fault.wait ?? 0) * 1000;
  return asked > left ? null : Math.min(left, asked + random * bound);
};

/**
 * Does something that may fail for the network's sake, again and again until it is done or patience is at its end; then the last
 * failure is thrown; another call then has one try. What is not repeatable is tried again only while nothing can have come of it. `once` calls `progressed` when
 * something came through: from then on patience counts anew.
 */
export const keepTrying = async <T>(
  patience: Patience,
  isRepeatable: boolean,
  once: (progressed: () => void) => Promise<T>,
): Promise<T> => {
  let [failures, total] = [0, 0];
  const progressed = (): void => {
    failures = 0;
    patience.renew();
  };
  for (;;) {
    patience.signal.throwIfAborted();
    try {
      const result = await once(progressed);
      patience.renew();
      return result;
    } catch (error) {
      patience.signal.throwIfAborted();
      if (!(error instanceof CallFailed)) {
        patience.renew();
        throw error;
      }
      failures += 1;
      total += 1;
      const trials = { failures, total, elapsed: patience.outage() };
      const { fault } = error;
      const pause = nextPause(fault, isRepeatable, trials, patience.seconds, Math.random());
      if (pause === null) throw error;
      patience.say(`${fault.reason}; again in ${(pause / 1000).toFixed(1)} s`);
      await sleep(pause, undefined, { signal: patience.signal });
    }
  }
};
