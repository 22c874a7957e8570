import { describe, expect, it } from '@jest/globals';
import { BUILD_STATES, isFinished, mayBecome } from '../../services/core/build/build-state.ts';

describe('a build', () => {
  it.each([
    ['queued', ['building', 'failed', 'cancelled']],
    ['building', ['building', 'signing', 'succeeded', 'excluded', 'failed', 'cancelled']],
    ['signing', ['succeeded', 'failed', 'cancelled']],
    ['succeeded', ['signing']],
    ['excluded', []],
    ['failed', ['queued']],
    ['cancelled', ['queued']],
  ] as const)('that is %s may become %j and nothing else', (from, reachable) => {
    expect(BUILD_STATES.filter((to) => mayBecome(from, to))).toEqual(reachable);
  });

  it('is finished once it succeeded, was excluded, failed or was cancelled', () => {
    expect(BUILD_STATES.filter(isFinished)).toEqual([
      'succeeded',
      'excluded',
      'failed',
      'cancelled',
    ]);
  });

  it('can always be ended while it is not finished', () => {
    for (const state of BUILD_STATES.filter((each) => !isFinished(each))) {
      expect(mayBecome(state, 'failed')).toBe(true);
      expect(mayBecome(state, 'cancelled')).toBe(true);
    }
  });
});
