import { describe, expect, it } from '@jest/globals';
import { digestOf, shortDigest } from '../../services/core/digest.ts';
import { compareSources, compareVersions } from '../../services/core/source/source-version.ts';

const tree = digestOf('tree');
const order = (one: string, other: string): number =>
  Math.sign(compareSources({ version: one, tree }, { version: other, tree }));

describe('a source’s version', () => {
  // What `dpkg --compare-versions` says of each.
  it.each([
    ['1.9', '1.10'],
    ['1.0~rc1', '1.0'],
    ['1.0~~', '1.0~'],
    ['1.0', '1.0a'],
    ['1.0a', '1.0+b'],
    ['1.0-1', '1.0-2'],
    ['1.0', '1.0-1'],
    ['1.0-1', '1.0.1'],
    ['2.1.5', '2.1.5-1ubuntu6'],
    ['0.12.7', '0.13.1'],
    ['20230101', '20240101'],
    ['99999999999999999998', '99999999999999999999'],
  ])('%s is older than %s', (older, newer) => {
    expect(order(older, newer)).toBe(-1);
    expect(order(newer, older)).toBe(1);
    expect(order(newer, newer)).toBe(0);
  });

  it('may be written with more zeros', () => {
    expect(order('1.01', '1.1')).toBe(0);
    expect(order('1.0', '1.')).toBe(0);
  });

  it('that is the name of its tree has no order, and is older than any other', () => {
    const bare = { version: shortDigest(tree), tree };
    const another = { version: shortDigest(digestOf('other')), tree: digestOf('other') };
    expect(compareSources(bare, another)).toBe(0);
    expect(compareSources(bare, { version: '0.1', tree })).toBeLessThan(0);
    expect(compareSources({ version: '0.1', tree }, bare)).toBeGreaterThan(0);
  });
});

it('a package’s version has an epoch that counts before all else', () => {
  expect(compareVersions('2.0-1', '1:1.0-1')).toBeLessThan(0);
  expect(compareVersions('2:0.1', '10:0.1')).toBeLessThan(0);
  expect(compareVersions('0:1.0-1', '1.0-1')).toBe(0);
  expect(compareVersions('0.8-15', '0.8-15+deb12u1')).toBeLessThan(0);
});
