/** What one run of a build is called: its job on a queue, its log, its cancellation. */
export const runName = (build: string, attempt: number): string => `${build}-${attempt}`;

/** What a builder's job is called: a rebuild has a name of its own. */
export const runOf = (job: {
  readonly build: string;
  readonly attempt: number;
  readonly rebuild: string | null;
}): string => job.rebuild ?? runName(job.build, job.attempt);
