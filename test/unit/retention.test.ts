import { describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import {
  arrivedBefore,
  fateOf,
  oldBefore,
  type Retention,
} from '../../services/core/policy/retention.ts';

const DAY = 24 * 3_600_000;
const blob = { digest: digestOf('blob'), arrivedAt: 10 };
const here = new Set([blob.digest]);
const nothing = new Set<string>();

const retention = (given: Partial<Retention> = {}): Retention => ({
  named: nothing,
  claimed: nothing,
  forgotten: nothing,
  arrivedBefore: 11,
  ...given,
});

describe('a blob', () => {
  it('goes when no record names it, nobody is sending it and it came long ago', () => {
    expect(fateOf(blob, retention())).toEqual({ goes: 'unnamed' });
  });

  it('goes when nothing names it but records that go', () => {
    expect(fateOf(blob, retention({ forgotten: here }))).toEqual({ goes: 'forgotten' });
  });

  it.each([
    ['named', { named: here }],
    ['claimed', { claimed: here }],
    ['recent', { arrivedBefore: 10 }],
  ] as const)('stays when it is %s, also where records that go name it besides', (stays, given) => {
    expect(fateOf(blob, retention(given))).toEqual({ stays });
    expect(fateOf(blob, retention({ ...given, forgotten: here }))).toEqual({ stays });
  });

  it('is recent for a day, and for as long as anything is under way that began before it came', () => {
    expect(arrivedBefore(10 * DAY, null)).toBe(9 * DAY);
    expect(arrivedBefore(10 * DAY, 3 * DAY)).toBe(3 * DAY);
    expect(arrivedBefore(10 * DAY, 10 * DAY - 1)).toBe(9 * DAY);
  });
});

describe('a record', () => {
  it('is old after so many days', () => {
    expect(oldBefore(100 * DAY, 90)).toBe(10 * DAY);
  });
});
