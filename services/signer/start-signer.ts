import type { Digest } from '../core/digest.ts';
import type { Identity, Senders } from '../core/jobs/envelope.ts';
import { KilnError } from '../core/errors.ts';
import { shortened, WORDS_LIMIT, type IndexJob } from '../core/jobs/jobs.ts';
import { indexRun, runName } from '../core/jobs/run-name.ts';
import type { BlobPlace } from '../storage/blob-place.ts';
import type { BlobInfo } from '../storage/blobs.ts';
import { openBlobs } from '../storage/open-blobs.ts';
import type { Log } from '../storage/log.ts';
import { openQueue, type JobRun } from '../storage/queues.ts';
import { createKabiReader } from '../storage/read-kabi.ts';
import type { RedisAddress } from '../storage/redis.ts';
import { loadRepositoryKey, loadSigningKey } from './key-file.ts';
import { signBuild } from './sign-build.ts';
import { signIndex } from './sign-index.ts';

/** A signer's settings (see `config.ts`). */
export interface SignerConfig {
  readonly redis: RedisAddress;
  readonly prefix: string;
  readonly own: Identity;
  /** The senders whose jobs are done: the API's key. */
  readonly coordinator: Senders;
  /** Digest of the in-container build script; what another script made is not signed. */
  readonly script: Digest;
  readonly blobs: BlobPlace;
  readonly keyFile: string;
  readonly certificateFile: string;
  /** The OpenPGP key of repositories. */
  readonly repositoryKeyFile: string;
}

/** Starts a signer. It listens on nothing. */
export const startSigner = async (
  config: SignerConfig,
  log: Log,
): Promise<{ close(): Promise<void> }> => {
  const key = await loadSigningKey(config.keyFile, config.certificateFile);
  const repositoryKey = await loadRepositoryKey(config.repositoryKeyFile);
  const checked = new Set<Digest>();
  const signed = new Map<Digest, BlobInfo>();
  const blobs = await openBlobs(config.blobs);
  const readKabi = createKabiReader(blobs);
  const { redis, prefix, own, coordinator: senders } = config;
  const outcomes = openQueue('outcomes', { redis, prefix, own, senders });
  const jobs = openQueue('signer', { redis, prefix, own, senders });

  const index = async (job: IndexJob, run: JobRun): Promise<void> => {
    const { format, suite, channel } = job.repository;
    const { generation } = job;
    const name = `${indexRun(job.repository, generation)}-indexed`;
    try {
      const deps = { blobs, key, repositoryKey, checked, signed, readKabi };
      await outcomes.add(name, await signIndex(job, deps));
      log.info({ format, suite, channel, generation }, 'repository signed');
    } catch (error) {
      log.error({ format, suite, channel, err: error }, 'cannot sign the repository');
      const isRefused = error instanceof KilnError && error.code === 'unverified';
      if (!run.isLast && !isRefused) throw error;
      const problem = isRefused
        ? `the signer refused the repository: ${error.message}`
        : 'the repository could not be signed; ask the admin to look at the signer’s log';
      await outcomes.add(name, {
        kind: 'unindexable',
        format,
        suite,
        channel,
        generation,
        problem: problem.slice(0, WORDS_LIMIT),
      });
    }
  };

  const working = jobs.work(
    async (job, run) => {
      if (job.kind === 'index') return index(job, run);
      const name = `${runName(job.build, job.attempt)}-signed`;
      try {
        await outcomes.add(name, await signBuild(job, { key, blobs, script: config.script }));
        log.info({ build: job.build }, 'signed');
      } catch (error) {
        log.error({ build: job.build, err: error }, 'cannot sign');
        const isRefused = error instanceof KilnError && error.code === 'unverified';
        if (!run.isLast && !isRefused) throw error;
        const message = isRefused
          ? `the signer refused the build: ${error.message}`
          : 'the modules were built, but could not be signed; ask the admin to look at the signer’s log';
        const failure = shortened({ code: 'signing-failed', message, lines: [] });
        const { build, attempt } = job;
        await outcomes.add(name, { kind: 'unsignable', build, attempt, failure });
      }
    },
    { concurrency: 1, onError: (error) => log.warn({ err: error }, 'queue') },
  );

  return {
    async close() {
      await working.stop();
      await Promise.all([jobs.close(), outcomes.close()]);
    },
  };
};
