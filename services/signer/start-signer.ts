import { openBlobDirectory } from '../storage/blobs.ts';
import type { Log } from '../storage/log.ts';
import { openQueue } from '../storage/queues.ts';
import type { RedisAddress } from '../storage/redis.ts';
import { loadSigningKey } from './key-file.ts';
import { signBuild } from './sign-build.ts';

/** A signer's settings (see `config.ts`). */
export interface SignerConfig {
  readonly redis: RedisAddress;
  readonly prefix: string;
  readonly blobs: string;
  readonly keyFile: string;
  readonly certificateFile: string;
}

/** Starts a signer. It tells the coordinator its certificate, and listens on nothing. */
export const startSigner = async (
  config: SignerConfig,
  log: Log,
): Promise<{ close(): Promise<void> }> => {
  const key = await loadSigningKey(config.keyFile, config.certificateFile);
  const blobs = await openBlobDirectory(config.blobs);
  const outcomes = openQueue('outcomes', config.redis, config.prefix);
  const jobs = openQueue('signer', config.redis, config.prefix);
  await outcomes.add(`signer-${key.id}`, {
    kind: 'signer',
    key: key.id,
    certificate: key.certificate.toString(),
  });

  const working = jobs.work(
    async (job, run) => {
      const name = `${job.build}-${job.attempt}-signed`;
      try {
        await outcomes.add(name, await signBuild(job, key, blobs));
        log.info({ build: job.build }, 'signed');
      } catch (error) {
        log.error({ build: job.build, err: error }, 'cannot sign');
        if (!run.isLast) throw error;
        const failure = {
          code: 'signing-failed',
          message:
            'the modules were built, but could not be signed; ask the admin to look at the signer’s log',
          lines: [],
        } as const;
        await outcomes.add(name, {
          kind: 'failed',
          build: job.build,
          attempt: job.attempt,
          failure,
          log: null,
        });
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
