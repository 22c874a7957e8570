import type { Standing } from './standing.ts';

/** How a host's modules stand, as node_exporter's textfile collector takes it (Prometheus' text format). */

const STATES: readonly Standing['state'][] = [
  'installed',
  'linked',
  'stale',
  'withdrawn',
  'overridden',
  'excluded',
  'in-tree',
  'failed',
  'missing',
];

/** A label's value, with what it may not hold escaped. */
const quoted = (value: string): string =>
  `"${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`;

const sample = (name: string, labels: Readonly<Record<string, string>>, value: number): string =>
  `${name}{${Object.entries(labels)
    .map(([label, text]) => `${label}=${quoted(text)}`)
    .join(',')}} ${value}`;

/** The lines. `now` is in milliseconds since 1970. */
export const standingMetrics = (
  rows: readonly Standing[],
  { isInterrupted, now }: { readonly isInterrupted: boolean; readonly now: number },
): string =>
  [
    '# HELP kiln_host_modules Modules of this host’s kernels, by how they stand (kiln status).',
    '# TYPE kiln_host_modules gauge',
    ...STATES.map((state) =>
      sample('kiln_host_modules', { state }, rows.filter((row) => row.state === state).length),
    ),
    '# HELP kiln_host_module One of them: 1.',
    '# TYPE kiln_host_module gauge',
    ...rows.map(({ name, release, state, receipt }) =>
      sample('kiln_host_module', { name, release, state, version: receipt?.version ?? '' }, 1),
    ),
    '# HELP kiln_host_interrupted Whether a change was interrupted (kiln recover).',
    '# TYPE kiln_host_interrupted gauge',
    `kiln_host_interrupted ${isInterrupted ? 1 : 0}`,
    '# HELP kiln_host_looked_at_seconds When this was looked at, in seconds since 1970.',
    '# TYPE kiln_host_looked_at_seconds gauge',
    `kiln_host_looked_at_seconds ${Math.floor(now / 1000)}`,
    '',
  ].join('\n');
