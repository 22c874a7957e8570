import type { Digest } from '../digest.ts';

/** What the service keeps, and what goes: what nobody can ask for any more, and what is of no use. */

const DAY = 24 * 3_600_000;

/**
 * The records that go, by table, each when it is KILN_KEEP_DAYS old. All others stay for good: what a host can still ask for, what an
 * attestation names, what is pinned, what was withdrawn. A token has ended when it was revoked or has expired.
 */
export const OLD_RECORDS = {
  artifacts: 'the log, modules and exports of a build that failed or was cancelled',
  modules: 'a module of a build that failed or was cancelled',
  packages:
    'the file of a package that is in no repository, and is packed again when it is asked for',
  rebuilds: 'a rebuild that gave the same bytes, or failed',
  misses: 'a miss that nobody had again',
  askers: 'that an ended token asked for a build, which has ended',
  pushers: 'that an ended token pushed a source or kernel',
  builds: 'a build without modules that nobody’s token asked for and no other build needs',
  sources: 'a source that nobody vouches for, nobody’s token pushed and nothing was built of',
  kernels: 'a kernel that nobody vouches for, nobody’s token pushed and nothing was built for',
  toolchains: 'a toolchain that was refused',
  tokens: 'a token that has ended and that no record names',
} as const;

/** A table that records go from. */
export type OldTable = keyof typeof OLD_RECORDS;

/** Records from before this are old. */
export const oldBefore = (now: number, keepDays: number): number => now - keepDays * DAY;

/** A blob as it lies there: its bytes, and when they came (milliseconds since 1970). */
export interface KeptBlob {
  readonly digest: Digest;
  readonly size: number;
  readonly arrivedAt: number;
}

/** What decides over blobs. */
export interface Retention {
  /** Named by a record that stays: of a source, a kernel, a toolchain or its packages, what a build made. */
  readonly named: ReadonlySet<string>;
  /** Sent, or told to be here, by somebody who may still make a record of it. */
  readonly claimed: ReadonlySet<string>;
  /** Named by nothing but records that go. */
  readonly forgotten: ReadonlySet<string>;
  /** See `arrivedBefore`. */
  readonly arrivedBefore: number;
}

/** What becomes of a blob, and why. */
export type Fate =
  { readonly stays: 'named' | 'claimed' | 'recent' } | { readonly goes: keyof typeof GOING };

/** Why blobs go, in words. */
export const GOING = {
  forgotten: 'bytes that only records named which go',
  unnamed: 'bytes that no record names and nobody is sending',
} as const;

/** Decides over one blob. */
export const fateOf = (
  { digest, arrivedAt }: Pick<KeptBlob, 'digest' | 'arrivedAt'>,
  { named, claimed, forgotten, arrivedBefore: limit }: Retention,
): Fate => {
  if (named.has(digest)) return { stays: 'named' };
  if (claimed.has(digest)) return { stays: 'claimed' };
  if (arrivedAt >= limit) return { stays: 'recent' };
  return { goes: forgotten.has(digest) ? 'forgotten' : 'unnamed' };
};

/**
 * Blobs that came before this may go: a day ago, and before anything began that is under way. Builders and the signer store bytes
 * before they report them, and a report may wait for as long as its build does.
 */
export const arrivedBefore = (now: number, underWaySince: number | null): number =>
  Math.min(now - DAY, underWaySince ?? now);
