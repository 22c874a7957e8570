import { describe, expect, it } from '@jest/globals';
import { compareRpmTexts, compareRpmVersions } from '../../services/core/kernel/rpm-version.ts';

describe('RPM’s versions', () => {
  it('are ordered by number, word, ~ and ^', () => {
    const ordered = [
      '1.0~rc1', '1.0~rc2', '1.0', '1.0^git1', '1.0^git1.1', '1.0a', '1.0.a', '1.0.1', '1.0.9', '1.0.10', '1.1', '10',
    ]; // prettier-ignore
    expect(
      ordered
        .toReversed()
        .sort(compareRpmTexts)
        .filter((each) => each !== '1.0.a'),
    ).toEqual(ordered.filter((each) => each !== '1.0.a'));
    expect(compareRpmTexts('1.0a', '1.0.a')).toBe(0);
    expect(compareRpmTexts('1.0.', '1_0')).toBe(0);
    expect(compareRpmTexts('1.001', '1.1')).toBe(0);
  });

  it('are told by the epoch first, then the version, then the release', () => {
    const version = { epoch: 0, version: '5.14.0', release: '427.9.1.el9' };
    expect(compareRpmVersions(version, { ...version, release: '427.20.1.el9' })).toBeLessThan(0);
    expect(compareRpmVersions(version, { ...version, version: '5.9.0' })).toBeGreaterThan(0);
    expect(compareRpmVersions(version, { ...version, epoch: 1, version: '1' })).toBeLessThan(0);
    expect(compareRpmVersions(version, version)).toBe(0);
  });
});
