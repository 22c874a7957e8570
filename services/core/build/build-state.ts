/**
 * The states of a build. `signing` is skipped where policy refuses the signature. `excluded` means that the source itself leaves this
 * kernel out.
 */
export const BUILD_STATES = [
  'queued',
  'building',
  'signing',
  'succeeded',
  'excluded',
  'failed',
  'cancelled',
] as const;
export type BuildState = (typeof BUILD_STATES)[number];

const NEXT: Readonly<Record<BuildState, readonly BuildState[]>> = {
  queued: ['building', 'failed', 'cancelled'],
  building: ['building', 'signing', 'succeeded', 'excluded', 'failed', 'cancelled'],
  signing: ['succeeded', 'failed', 'cancelled'],
  succeeded: ['signing'],
  excluded: [],
  failed: ['queued'],
  cancelled: ['queued'],
};

const ENDS: readonly BuildState[] = ['succeeded', 'excluded', 'failed', 'cancelled'];

/** Tells whether a build may go from one state to another. A succeeded, unsigned build may be signed later. */
export const mayBecome = (from: BuildState, to: BuildState): boolean => NEXT[from].includes(to);

/** Tells whether nothing more happens to a build by itself. */
export const isFinished = (state: BuildState): boolean => ENDS.includes(state);
