import type { Fared } from './with-dkms.ts';

/** One source on one kernel, by both. */
export interface Line {
  readonly source: string;
  readonly version: string;
  readonly kernel: string;
  readonly kiln: Fared;
  readonly dkms: Fared;
  /** Where the bytes differ: what DKMS makes with `KBUILD_BUILD_TIMESTAMP` set, and whether Kiln makes its own again. */
  dkmsToldToBeReproducible?: Readonly<Record<string, string>>;
  kilnRepeats?: boolean;
}

/** Whether two made the same modules, byte for byte. */
export const isSame = (a: Pick<Fared, 'modules'>, b: Pick<Fared, 'modules'>): boolean =>
  differing(a.modules, b.modules).length === 0;

const differing = (
  a: Readonly<Record<string, string>>,
  b: Readonly<Record<string, string>>,
): readonly string[] =>
  [...new Set([...Object.keys(a), ...Object.keys(b)])].filter((name) => a[name] !== b[name]);

/** Sources whose bytes DKMS does not repeat, and why. */
const UNREPEATED: Readonly<Record<string, string>> = {
  'openafs-modules-dkms': 'embeds the date of its build',
};

/** Sources that both fail to build, in other words, and why. */
const OTHER_WORDS: Readonly<Record<string, string>> = {
  'zfs-dkms':
    'its configure refuses this kernel, and Kiln stops there as dkms 3.2 does; dkms 3.0 goes on to a make without a Makefile',
  'west-chamber-dkms':
    'it links into /usr/src, which Kiln keeps read-only, the source of a package that is not there: either way no rule to make compat_xtables',
};

/** What a compiler says of a line, without the line: what a header lacks it says of any file that comes first. */
const reasonOf = (error: string): string => error.replace(/^\S+:\d+(:\d+)?: /, '');

/** How a line's two halves compare. */
export const compare = (line: Line): { readonly verdict: string; readonly isWell: boolean } => {
  const { source, kiln, dkms } = line;
  if (kiln.outcome !== dkms.outcome)
    return { verdict: `Kiln ${kiln.outcome}, DKMS ${dkms.outcome}`, isWell: false };
  if (kiln.outcome === 'excluded') return { verdict: 'excluded', isWell: true };
  if (kiln.outcome === 'failed') {
    const theirs = new Set(dkms.errors?.map(reasonOf));
    const both = kiln.errors?.find((error) => theirs.has(reasonOf(error)));
    const reason = both ?? OTHER_WORDS[source];
    const words = reason ?? `Kiln says ${kiln.errors?.[0]}, DKMS ${dkms.errors?.[0]}`;
    return { verdict: `failed: ${words.replaceAll('|', '/')}`, isWell: reason !== undefined };
  }
  const count = Object.keys(kiln.modules).length;
  const others = differing(kiln.modules, dkms.modules);
  if (others.length === 0) return { verdict: `${count} identical`, isWell: true };
  const told = differing(kiln.modules, line.dkmsToldToBeReproducible ?? {});
  if (told.length === 0) {
    return {
      verdict: `${count} identical once DKMS is told to be reproducible: pahole’s threads order ${others.join(', ')}`,
      isWell: true,
    };
  }
  const reason = UNREPEATED[source];
  const repeats = line.kilnRepeats === true ? '; Kiln repeats its own' : '';
  return {
    verdict: `${count - others.length} identical, ${others.join(', ')} ${reason ?? 'differ'}${repeats}`,
    isWell: reason !== undefined && line.kilnRepeats === true,
  };
};

/** The sums of some lines' seconds. */
const timesOf = (lines: readonly Line[]): { readonly kiln: number; readonly dkms: number } => ({
  kiln: lines.reduce((total, { kiln }) => total + kiln.seconds, 0),
  dkms: lines.reduce((total, { dkms }) => total + dkms.seconds, 0),
});

/** Which sources take Kiln longer, all their kernels together: single lines differ from run to run. */
const slowSources = (lines: readonly Line[]): string => {
  const sources = Object.groupBy(lines, ({ source }) => source);
  const slow = Object.entries(sources).flatMap(([source, of = []]) => {
    const { kiln, dkms } = timesOf(of);
    return kiln > dkms ? [`${source} (${((kiln / dkms - 1) * 100).toFixed(0)} %)`] : [];
  });
  return slow.length === 0
    ? 'Over all its kernels, no source is.'
    : `Over all their kernels, these are: ${slow.join(', ')}.`;
};

/** The table, in Markdown, with the sums of the times. */
export const reportOf = (
  lines: readonly Line[],
): { readonly text: string; readonly isAllWell: boolean } => {
  const rows = lines.map((line) => {
    const { verdict } = compare(line);
    const ratio = line.dkms.seconds / line.kiln.seconds;
    return `| ${line.source} ${line.version} | ${line.kernel} | ${verdict} | ${line.kiln.seconds.toFixed(1)} | ${line.dkms.seconds.toFixed(1)} | ${ratio.toFixed(2)} |`;
  });
  const { kiln, dkms } = timesOf(lines);
  const slower = lines.filter((line) => line.kiln.seconds > line.dkms.seconds);
  const most = Math.max(0, ...slower.map((line) => line.kiln.seconds - line.dkms.seconds));
  const text = [
    '| source | kernel | modules | Kiln, s | DKMS, s | DKMS / Kiln |',
    '|---|---|---|---|---|---|',
    ...rows,
    '',
    `${lines.length} lines, ${lines.filter((line) => compare(line).isWell).length} the same or explained. In sum Kiln ${kiln.toFixed(0)} s, DKMS ${dkms.toFixed(0)} s: ${(dkms / kiln).toFixed(2)} times faster.`,
    slower.length === 0
      ? 'No line is slower than with DKMS.'
      : `${slower.length} lines are slower than with DKMS, by ${most.toFixed(1)} s at most.`,
    slowSources(lines),
    '',
  ].join('\n');
  return { text, isAllWell: lines.every((line) => compare(line).isWell) };
};
