import type { BuildState } from '../build/build-state.ts';
import type { Digest } from '../digest.ts';

/** Which of the service's blobs stay, and which go: those that nobody can ask for, and logs that are of no use any more. */

const DAY = 24 * 3_600_000;

/** A blob as it lies there: its bytes, and when they came (milliseconds since 1970). */
export interface KeptBlob {
  readonly digest: Digest;
  readonly size: number;
  readonly arrivedAt: number;
}

/** What decides over blobs. */
export interface Retention {
  /** Named by a record: of a source, a kernel, a toolchain or its packages, what a build made. */
  readonly named: ReadonlySet<string>;
  /** Sent, or told to be here, by somebody who may still make a record of it. */
  readonly claimed: ReadonlySet<string>;
  /** Named as nothing but the log of a build that did not succeed and ended long ago. */
  readonly oldLogs: ReadonlySet<string>;
  /** See `arrivedBefore`. */
  readonly arrivedBefore: number;
}

/** What becomes of a blob, and why. */
export type Fate =
  { readonly stays: 'named' | 'claimed' | 'recent' } | { readonly goes: keyof typeof GOING };

/** Why blobs go, in words. */
export const GOING = {
  'old-log': 'logs of builds that failed or were cancelled long ago',
  unnamed: 'bytes that no record names and nobody is sending',
} as const;

/** The builds whose logs are not kept for ever. */
export const PASSING_STATES: readonly BuildState[] = ['failed', 'cancelled'];

/** Decides over one blob. */
export const fateOf = (
  { digest, arrivedAt }: Pick<KeptBlob, 'digest' | 'arrivedAt'>,
  { named, claimed, oldLogs, arrivedBefore: limit }: Retention,
): Fate => {
  if (named.has(digest)) return { stays: 'named' };
  if (claimed.has(digest)) return { stays: 'claimed' };
  if (arrivedAt >= limit) return { stays: 'recent' };
  return { goes: oldLogs.has(digest) ? 'old-log' : 'unnamed' };
};

/**
 * Blobs that came before this may go: a day ago, and before anything began that is under way. Builders and the signer store bytes
 * before they report them, and a report may wait for as long as its build does.
 */
export const arrivedBefore = (now: number, underWaySince: number | null): number =>
  Math.min(now - DAY, underWaySince ?? now);

/** Logs of builds that did not succeed and ended before this go. */
export const endedBefore = (now: number, keepDays: number): number => now - keepDays * DAY;
