import { shortDigest } from '../digest.ts';
import type { Source } from './source.ts';

/** A source's version, and the tree that a source without one is called after. */
export type Versioned = Pick<Source, 'version' | 'tree'>;

/**
 * How a source's version stands to another's: below 0 where it is older, above 0 where it is newer. By Debian's rules (deb-version(7)),
 * in which packages of DKMS modules are compared: `1.10` is newer than `1.9`, `1.0~rc1` older than `1.0`, `1.0-2` newer than `1.0-1`.
 * Sources that were pushed without a version have no order among themselves (0), and are older than those with one.
 */
export const compareSources = (one: Versioned, other: Versioned): number => {
  const [isOneBare, isOtherBare] = [isBare(one), isBare(other)];
  if (isOneBare || isOtherBare) return Number(isOtherBare) - Number(isOneBare);
  return compareVersions(one.version, other.version);
};

/** How a package's version stands to another's, by the same rules; an epoch (`1:`) counts before all else. */
export const compareVersions = (one: string, other: string): number => {
  const [epoch, upstream, revision] = parts(one);
  const [otherEpoch, otherUpstream, otherRevision] = parts(other);
  return (
    compareParts(epoch, otherEpoch) ||
    compareParts(upstream, otherUpstream) ||
    compareParts(revision, otherRevision)
  );
};

/** Whether a source is called after its tree, as it was pushed without a version. */
const isBare = ({ version, tree }: Versioned): boolean => version === shortDigest(tree);

const parts = (version: string): readonly [epoch: string, upstream: string, revision: string] => {
  const [, epoch = '0', rest = ''] = /^(?:(\d+):)?(.*)$/s.exec(version) ?? [];
  const dash = rest.lastIndexOf('-');
  return dash < 0 ? [epoch, rest, ''] : [epoch, rest.slice(0, dash), rest.slice(dash + 1)];
};

/** Text and numbers in turn (source: dpkg, `verrevcmp`). */
const compareParts = (one: string, other: string): number => {
  const [a, b] = [one, other].map((text) => text.match(/[^0-9]*[0-9]*/g) ?? []);
  const count = Math.max(a?.length ?? 0, b?.length ?? 0);
  for (let index = 0; index < count; index += 1) {
    const [x, y] = [a?.[index] ?? '', b?.[index] ?? ''];
    const order = compareTexts(x.replace(/[0-9]+$/, ''), y.replace(/[0-9]+$/, ''));
    if (order !== 0) return order;
    const [n, m] = [x, y].map((text) => BigInt(/[0-9]+$/.exec(text)?.[0] ?? '0'));
    if (n !== undefined && m !== undefined && n !== m) return n < m ? -1 : 1;
  }
  return 0;
};

const compareTexts = (one: string, other: string): number => {
  const count = Math.max(one.length, other.length);
  for (let index = 0; index < count; index += 1) {
    const order = weight(one[index]) - weight(other[index]);
    if (order !== 0) return order;
  }
  return 0;
};

/** `~` goes before the end of the text, that before letters, and those before all else. */
const weight = (character: string | undefined): number => {
  if (character === undefined) return 0;
  if (character === '~') return -1;
  const code = character.charCodeAt(0);
  return /[A-Za-z]/.test(character) ? code : code + 256;
};
