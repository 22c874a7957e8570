/** A package's version, as RPM counts it. */
export interface RpmVersion {
  readonly epoch: number;
  readonly version: string;
  readonly release: string;
}

/** How one version stands to another: below 0 where it is older, above 0 where it is newer (source: rpm-version(7)). */
export const compareRpmVersions = (one: RpmVersion, other: RpmVersion): number =>
  one.epoch - other.epoch ||
  compareRpmTexts(one.version, other.version) ||
  compareRpmTexts(one.release, other.release);

/**
 * How one version or release stands to another. Numbers and words are compared in turn, whatever stands between them: a number is newer
 * than a word, and what goes on is newer than what ends; `~` makes it older than the end, and `^` a little newer.
 */
export const compareRpmTexts = (one: string, other: string): number => {
  const [a, b] = [partsOf(one), partsOf(other)];
  for (let index = 0; index < Math.max(a.length, b.length); index += 1) {
    const order = compareParts(a[index], b[index]);
    if (order !== 0) return order;
  }
  return 0;
};

const partsOf = (text: string): readonly string[] => text.match(/[0-9]+|[A-Za-z]+|[~^]/g) ?? [];

const compareParts = (one: string | undefined, other: string | undefined): number => {
  const byKind = rank(one) - rank(other);
  if (byKind !== 0 || one === undefined || other === undefined) return byKind;
  if (!/^[0-9]/.test(one)) return compareTexts(one, other);
  const [a, b] = [one.replace(/^0+/, ''), other.replace(/^0+/, '')];
  return a.length - b.length || compareTexts(a, b);
};

const rank = (part: string | undefined): number => {
  if (part === undefined) return 1;
  if (part === '~') return 0;
  if (part === '^') return 2;
  return /^[0-9]/.test(part) ? 4 : 3;
};

const compareTexts = (one: string, other: string): number =>
  one === other ? 0 : one < other ? -1 : 1;
