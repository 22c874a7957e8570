import type { Life } from './life.ts';
import type { Line } from './one-package.ts';

/** What it takes to have modules at all: what apt fetches and how long it takes, on a host with a kernel and nothing else. */
export interface Needs {
  readonly packages: number;
  readonly bytes: number;
  readonly seconds: number;
}

/** A suite's part of the table. */
export interface Part {
  readonly suite: string;
  readonly release: string;
  readonly needs: { readonly kiln: Needs; readonly dkms: Needs };
  readonly lines: readonly Line[];
  readonly lives: readonly Life[];
}

/** Whether a package fared the same on both hosts, to the byte, and left nothing. */
export const isWell = (line: Line): boolean => verdictOf(line).isWell;

/** Modules that differ, and why. */
const OWN =
  'is the kernel’s own, too, without a version: dkms 3.0 keeps that, dkms 3.2 (and Kiln) installs the other';
const WRITES_TO_SOURCE = 'is built in /usr/src itself, which Kiln has read-only';
const DIFFERING: Readonly<Record<string, string>> = {
  openafs: 'embeds the date of its build',
  hdaps: OWN,
  streebog_generic: OWN,
  // All of west-chamber-dkms.
  xt_CUI: WRITES_TO_SOURCE,
  xt_ZHANG: WRITES_TO_SOURCE,
  xt_gfw: WRITES_TO_SOURCE,
};

const verdictOf = (line: Line): { readonly words: string; readonly isWell: boolean } => {
  const { kiln, dkms, left, lost, status } = line;
  const wrong: string[] = [];
  let words: string =
    kiln.outcome === 'uninstallable' ? 'apt cannot install it on either' : kiln.outcome;
  if (kiln.outcome !== dkms.outcome) wrong.push(`kiln-dkms ${kiln.outcome}, dkms ${dkms.outcome}`);
  else if (kiln.outcome === 'built') {
    const names = [...new Set([...Object.keys(kiln.modules), ...Object.keys(dkms.modules)])];
    const others = names.filter((name) => kiln.modules[name] !== dkms.modules[name]);
    words = `${names.length - others.length} identical`;
    for (const name of others) {
      const reason = DIFFERING[name];
      if (reason === undefined) wrong.push(`${name} differs`);
      else words += `, ${name} ${reason}`;
    }
  }
  if (status !== 0) wrong.push(`apt ended with ${status}`);
  if (left.length > 0) wrong.push(`left behind: ${left.slice(0, 20).join(' ')}`);
  if (lost.length > 0) wrong.push(`lost: ${lost.slice(0, 20).join(' ')}`);
  return wrong.length === 0
    ? { words, isWell: true }
    : { words: `**${[words, ...wrong].join('; ')}**`, isWell: false };
};

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);
const sum = (numbers: readonly number[]): number => numbers.reduce((all, each) => all + each, 0);

/** The table, in Markdown, with the sums. */
export const reportOf = ({ suite, release, needs, lines, lives }: Part): string => {
  const rows = lines.map((line) => {
    const { kiln, dkms, bytes, packages } = line;
    const times = [kiln.seconds, kiln.coldSeconds, dkms.seconds].map((each) => each.toFixed(1));
    return `| ${line.package} ${line.version} | ${verdictOf(line).words} | ${packages} | ${megabytes(bytes)} | ${times.join(' | ')} |`;
  });
  const well = lines.filter(isWell).length;
  const total = {
    kiln: sum(lines.map(({ kiln }) => kiln.seconds)),
    dkms: sum(lines.map(({ dkms }) => dkms.seconds)),
  };
  const row = (what: string, { packages, bytes, seconds }: Needs): string =>
    `| ${what} | ${packages} | ${megabytes(bytes)} | ${seconds.toFixed(1)} |`;
  return `## ${suite}, ${release}

| a host needs | packages | MB | seconds |
|---|---|---|---|
${row('kiln-dkms', needs.kiln)}
${row('dkms, headers, compiler', needs.dkms)}

| package | modules | packages | MB | kiln-dkms, s | and building, s | dkms, s |
|---|---|---|---|---|---|---|
${rows.join('\n')}

${lines.length} packages, ${well} the same on both hosts with nothing left behind. With modules that were built before, apt takes ${total.kiln.toFixed(0)} s in sum with kiln-dkms and ${total.dkms.toFixed(0)} s with dkms: ${(total.dkms / total.kiln).toFixed(1)} times faster.
${lives.map(livesRow).join('')}`;
};

/** What became of packages that were installed together. */
const livesRow = ({ packages, install, kernel, upgrade, purge, problems }: Life): string => {
  const times = `installed in ${install.toFixed(0)} s, a new kernel in ${kernel.toFixed(0)} s, upgraded in ${upgrade.toFixed(0)} s, purged in ${purge.toFixed(0)} s`;
  const end =
    problems.length === 0
      ? 'the same modules after each step, nothing left behind.'
      : `**${problems.join('; ')}**`;
  return `\n${packages.length} packages together (${packages.join(', ')}): ${times}; ${end}\n`;
};
