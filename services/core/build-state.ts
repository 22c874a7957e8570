/** A build's way. `signing` is passed over where policy refuses the signature. */
export type BuildState = 'queued' | 'building' | 'signing' | 'succeeded' | 'failed' | 'cancelled';

export const BUILD_STATES: readonly BuildState[] = [
  'queued',
  'building',
  'signing',
  'succeeded',
  'failed',
  'cancelled',
];

const NEXT: Readonly<Record<BuildState, readonly BuildState[]>> = {
  queued: ['building', 'failed', 'cancelled'],
  building: ['building', 'signing', 'succeeded', 'failed', 'cancelled'],
  signing: ['succeeded', 'failed', 'cancelled'],
  succeeded: ['signing'],
  failed: ['queued'],
  cancelled: ['queued'],
};

/** Tells whether a build may go from one state to another. A succeeded, unsigned build may be signed later. */
export const mayBecome = (from: BuildState, to: BuildState): boolean => NEXT[from].includes(to);

/** Tells whether nothing more happens to a build by itself. */
export const isFinished = (state: BuildState): boolean =>
  state === 'succeeded' || state === 'failed' || state === 'cancelled';
