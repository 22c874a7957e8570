import type { Fared } from './with-dkms.ts';

/** One source on one kernel, by both. */
export interface Line {
  readonly source: string;
  readonly version: string;
  readonly kernel: string;
  readonly kiln: Fared;
  readonly dkms: Fared;
}

/** Sources whose bytes DKMS does not repeat, and why. */
const UNREPEATED: Readonly<Record<string, string>> = {
  'openafs-modules-dkms': 'embeds the date of its build; Kiln’s is always the same',
};

/** How a line's two halves compare. */
export const compare = ({
  source,
  kiln,
  dkms,
}: Line): { readonly verdict: string; readonly isWell: boolean } => {
  if (kiln.outcome !== dkms.outcome)
    return { verdict: `Kiln ${kiln.outcome}, DKMS ${dkms.outcome}`, isWell: false };
  if (kiln.outcome !== 'built') return { verdict: kiln.outcome, isWell: true };
  const names = [...new Set([...Object.keys(kiln.modules), ...Object.keys(dkms.modules)])];
  const differing = names.filter((name) => kiln.modules[name] !== dkms.modules[name]);
  if (differing.length === 0) return { verdict: `${names.length} identical`, isWell: true };
  const reason = UNREPEATED[source];
  return {
    verdict: `${names.length - differing.length} identical, ${differing.join(', ')} differ${reason === undefined ? '' : `: ${reason}`}`,
    isWell: reason !== undefined,
  };
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
  const sum = (of: (line: Line) => number): number =>
    lines.reduce((total, line) => total + of(line), 0);
  const [kiln, dkms] = [sum((line) => line.kiln.seconds), sum((line) => line.dkms.seconds)];
  const slower = lines.filter((line) => line.kiln.seconds > line.dkms.seconds);
  const text = [
    '| source | kernel | modules | Kiln, s | DKMS, s | DKMS / Kiln |',
    '|---|---|---|---|---|---|',
    ...rows,
    '',
    `${lines.length} lines, ${lines.filter((line) => compare(line).isWell).length} the same or explained. In sum Kiln ${kiln.toFixed(0)} s, DKMS ${dkms.toFixed(0)} s: ${(dkms / kiln).toFixed(2)} times faster.`,
    slower.length === 0
      ? 'No source is slower than with DKMS.'
      : `Slower than with DKMS: ${slower.map((line) => `${line.source} on ${line.kernel}`).join(', ')}.`,
    '',
  ].join('\n');
  return { text, isAllWell: lines.every((line) => compare(line).isWell) };
};
