import type { RepositoryName } from '../repository/repository.ts';

/** The name of one run of a build: of its job on a queue, its log and its cancellation. */
export const runName = (build: string, attempt: number): string => `${build}-${attempt}`;

/** The run's name of a builder's job: a rebuild has one of its own. */
export const runOf = (job: {
  readonly build: string;
  readonly attempt: number;
  readonly rebuild: string | null;
}): string => job.rebuild ?? runName(job.build, job.attempt);

/** The name of one version of a repository's index. */
export const indexRun = ({ format, suite, channel }: RepositoryName, generation: number): string =>
  `index-${format}-${suite}-${channel}-${generation}`;

/** The name of one try to make a package. */
export const packageRun = (id: string, attempt: number): string => `package-${id}-${attempt}`;
