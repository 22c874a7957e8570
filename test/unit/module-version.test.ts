import { describe, expect, it } from '@jest/globals';
import { compareModuleVersions, isKeptInTree } from '../../services/core/module/module-version.ts';

const modinfo = (version: string | null): readonly (readonly [string, string])[] => [
  ['license', 'GPL'],
  ...(version === null ? [] : [['version', version] as const]),
  ['srcversion', `of ${version ?? 'none'}`],
];

describe('an in-tree module', () => {
  it.each<[string | null, string, string | null]>([
    ['1.10', 'newer', '1.9'],
    ['1.9', 'older', '1.10'],
    ['0.12.7', 'same', '0.12.7'],
    ['1.0 (2020)', 'same', '1.0 (2026)'],
    [null, 'same', null],
    [null, 'unknown', '1.0'],
    ['1.0', 'unknown', null],
    ['1.0-rc1', 'newer', '1.0'],
    // Past three digits DKMS compares letter by letter.
    ['1000', 'older', '999'],
  ])('of version %j is %s beside ours of %j', (theirs, order, ours) => {
    expect(compareModuleVersions(modinfo(theirs), modinfo(ours))).toBe(order);
  });

  it('stays in use where it is newer or the same', () => {
    expect((['newer', 'same', 'older', 'unknown'] as const).map(isKeptInTree)).toEqual([
      true,
      true,
      false,
      false,
    ]);
  });
});
