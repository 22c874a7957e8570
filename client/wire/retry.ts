import { setTimeout as sleep } from 'node:timers/promises';
import { CallFailed, type Fault } from './fault.ts';

/** How long a command keeps trying to reach the service; one for all of its calls. */
export interface Patience {
  /** 0 is one try. */
  readonly seconds: number;
  /** Aborted by ^C. */
  readonly signal: AbortSignal;
  say(text: string): void;
  /** Notes that something came through: patience counts anew from here. */
  renew(): void;
  /** Milliseconds since the first failure after the last `renew`. Called upon a failure. */
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

/** The count of one call's tries, after the last of them failed. */
export interface Trials {
  /** Failures in a row, at least 1. */
  readonly failures: number;
  /** Failures in all; more than `failures` where something came through between them. */
  readonly total: number;
  /** Milliseconds since the command's first failure after which nothing has come through. */
  readonly elapsed: number;
}

const FIRST_PAUSE = 250;
const LONGEST_PAUSE = 10_000;
const MOST_TRIES = 1000;

/**
 * Milliseconds to wait before the next try, `null` to give up. Exponential with full jitter: a random time up to a bound that doubles
 * from 0.25 to 10 seconds, so that a fleet does not come back at one moment; never less than the other side asks for. `random` is in
 * [0, 1).
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
 * Repeats a call that the network may make fail, until it succeeds or patience runs out: then it throws the last failure, and further
 * calls have one try each. A call that is not repeatable is tried again only while the service cannot have acted on it. `once` calls
 * `progressed` when something came through: patience counts anew from there.
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
