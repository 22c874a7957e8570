/** What the roles count and time for Prometheus: names, what each means, and its labels. Seconds and bytes, as its own rules have them. */

interface Metric {
  readonly kind: 'counter' | 'histogram' | 'gauge';
  readonly help: string;
}

/** All metrics by name. */
export const METRICS = {
  kiln_requests_total: {
    kind: 'counter',
    help: 'Builds asked for, by the answer: built (before), waits, kernel (its kernel is being fetched) or refused, and then by the reason',
  },
  kiln_builds_ended_total: {
    kind: 'counter',
    help: 'Builds that ended, by their state, toolchain, kernel release, and what failed',
  },
  kiln_build_phase_seconds: {
    kind: 'histogram',
    help: 'What the time of builds went to: queued, prepare (image and trees), sandbox (compiling), check (modules), sign',
  },
  kiln_http_seconds: {
    kind: 'histogram',
    help: 'How long answers took, by the method, the first word of the path below /v1, and the class of the status',
  },
  kiln_builds: { kind: 'gauge', help: 'Builds that have not ended, by state' },
  kiln_oldest_build_seconds: {
    kind: 'gauge',
    help: 'Since when the oldest build in a state was asked for',
  },
  kiln_packages: { kind: 'gauge', help: 'Packages that are to be made' },
  kiln_rebuilds: { kind: 'gauge', help: 'Rebuilds by state: different ones gave other bytes' },
  kiln_slots: { kind: 'gauge', help: 'Builds that all builders run at once' },
  kiln_sync_age_seconds: {
    kind: 'gauge',
    help: 'Since when the last run over the followed archives has ended',
  },
  kiln_sync_problems: { kind: 'gauge', help: 'What went wrong in that run' },
  kiln_repository_valid_seconds: {
    kind: 'gauge',
    help: 'For how long the index of a repository is still valid',
  },
  kiln_certificate_valid_seconds: {
    kind: 'gauge',
    help: 'For how long the certificate that modules are signed with is still valid',
  },
  kiln_builder_runs: {
    kind: 'gauge',
    help: 'What this builder is at: builds, packages, measuring',
  },
  kiln_cache_lookups_total: {
    kind: 'counter',
    help: 'What builds needed of this builder’s cache, by kind, and whether it was there (hit) or was made (miss)',
  },
} as const satisfies Readonly<Record<string, Metric>>;

/** A metric's name. */
export type MetricName = keyof typeof METRICS;
type NameOf<Kind extends Metric['kind']> = {
  [Name in MetricName]: (typeof METRICS)[Name]['kind'] extends Kind ? Name : never;
}[MetricName];
export type CounterName = NameOf<'counter'>;
export type HistogramName = NameOf<'histogram'>;
export type GaugeName = NameOf<'gauge'>;

/** The values of labels, each of a small set. */
export type Labels = Readonly<Record<string, string>>;

/** Upper bounds of a histogram's buckets, in seconds: from an answer out of the record to a build of hours. */
export const BUCKETS: readonly number[] = [
  0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200,
];
