import { createHash } from 'node:crypto';
import { chmod, mkdir, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { KilnError } from '../core/errors.ts';
import { recordBelow } from '../storage/database-address.ts';
import { parseMetricsAddress } from '../storage/meters.ts';
import { OF_A_BUCKET } from '../storage/blob-place.ts';
import { lockDirectory } from '../storage/lock-directory.ts';
import { keepRunning, type Kept } from './keep-running.ts';
import { keyPlaces, makeKeys } from './make-keys.ts';
import { startRedis } from './own-redis.ts';

/** The options of `kilnd` without a role. */
export interface MachineOptions {
  readonly data: string;
  readonly listen: string;
  /** Variables for the roles, under those that the machine sets itself. */
  readonly environment: NodeJS.ProcessEnv;
  readonly say: (line: string) => void;
}

const KILND = new URL('../kilnd.ts', import.meta.url).pathname;

/**
 * All of Kiln on one machine: a Redis of its own, then api, builder and signer, each its own process and each started again
 * when it dies. Everything lives below one directory, but for a record on a server, and blobs in a bucket, which the environment names.
 */
export const startMachine = async (
  options: MachineOptions,
): Promise<{ url: string; close(): Promise<void> }> => {
  const data = resolve(options.data);
  const at = (name: string): string => join(data, name);
  const { host, port } = parseListen(options.listen);
  const name = createHash('sha256').update(data).digest('hex').slice(0, 12);
  const keys = keyPlaces(at('keys'), { key: at('signing.pem'), certificate: at('signing.crt') });
  const coordinator = { KILN_COORDINATOR: keys.publicKeys('api') };
  const certificate = { KILN_SIGNING_CERTIFICATE: keys.signingCertificate };
  const { KILN_BLOBS: given = '' } = options.environment;
  const isBucket = given.startsWith('s3:');
  const settings = {
    common: {
      KILN_PREFIX: `kiln-${name}`,
      KILN_BLOBS: isBucket ? given : at('blobs'),
    },
    signer: {
      KILN_KEY: keys.privateKey('signer'),
      KILN_SIGNING_KEY: keys.signingKey,
      KILN_REPOSITORY_KEY: keys.repositoryKey,
      ...certificate,
      ...coordinator,
    },
    builder: {
      KILN_KEY: keys.privateKey('builder'),
      KILN_BUILDER_CACHE: at('builder'),
      ...coordinator,
    },
    api: {
      KILN_KEY: keys.privateKey('api'),
      KILN_BUILDERS: keys.publicKeys('builder'),
      KILN_SIGNERS: keys.publicKeys('signer'),
      KILN_REPOSITORY_PUBLIC_KEY: keys.repositoryPublicKey,
      KILN_DATABASE: recordBelow(data, options.environment),
      KILN_ARCHIVES: options.environment['KILN_ARCHIVES'] ?? at('archives'),
      KILN_ADMIN_TOKEN_FILE: at('admin.token'),
      ...certificate,
    },
  };
  refuseOverridden(options.environment, {
    KILN_REDIS: '',
    ...(isBucket ? {} : Object.fromEntries(OF_A_BUCKET.map((each) => [each, '']))),
    ...settings.common,
    ...settings.signer,
    ...settings.builder,
    ...settings.api,
  });
  await mkdir(data, { recursive: true, mode: 0o700 });
  await chmod(data, 0o700);
  mustFitSockets(data);
  await mustNotHaveMoved(settings.api.KILN_DATABASE);
  const unlock = await lockData(data);
  const started: Kept[] = [];
  try {
    await makeKeys(at('keys'), keys);
    const redis = await startRedis(at('redis'));
    started.push(redis);
    const common = { ...settings.common, KILN_REDIS: redis.address };
    const startRole = async (role: string, own: Record<string, string>): Promise<Kept> => {
      const kept = await keepRunning(
        role,
        KILND,
        [role],
        { ...options.environment, ...common, ...own },
        options.say,
      );
      started.push(kept);
      return kept;
    };
    const signer = startRole('signer', settings.signer);
    const builder = startRole('builder', {
      ...settings.builder,
      ...nextMetrics(options.environment['KILN_METRICS']),
    });
    const api = startRole('api', { ...settings.api, KILN_HOST: host, KILN_PORT: String(port) });
    const results = await Promise.allSettled([api, builder, signer]);
    const failed = results.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    const { url } = await api;
    options.say(`kilnd: data in ${data}, admin token in ${at('admin.token')}`);
    return {
      url: url ?? '',
      async close() {
        await Promise.all(started.slice(1).map((kept) => kept.stop()));
        await redis.stop();
        await unlock();
      },
    };
  } catch (error) {
    await Promise.all(started.map((kept) => kept.stop()));
    await unlock();
    throw error;
  }
};

/** Makes sure that only one kilnd at a time works on a data directory; gives what unlocks it. Throws `conflict`. */
export const lockData = (data: string): Promise<() => Promise<void>> =>
  lockDirectory(data, `another kilnd runs on ${data}; stop it, or take another directory (--data)`);

/** A socket's path has at most 107 bytes (unix(7)), and one is `redis/redis.sock` in the directory. */
const LONGEST_PATH = 89;

/** Throws `bad-request`. */
const mustFitSockets = (data: string): void => {
  if (Buffer.byteLength(data) > LONGEST_PATH)
    throw new KilnError(
      'bad-request',
      `the path ${data} is too long for the sockets in it; use one of at most 80 characters`,
    );
};

/** Throws `conflict` where the record was moved to a server (`kilnd move`). */
const mustNotHaveMoved = async (record: string): Promise<void> => {
  if ((await stat(`${record}.moved`).catch(() => null)) === null) return;
  throw new KilnError(
    'conflict',
    `the record was moved from ${record} to a server; set KILN_DATABASE to that`,
  );
};

/** Throws `bad-request` where the environment has a setting that this machine makes itself, and that would have no effect. */
const refuseOverridden = (
  environment: NodeJS.ProcessEnv,
  own: Readonly<Record<string, string>>,
): void => {
  const given = Object.entries(own).find(
    ([name, value]) => environment[name] !== undefined && environment[name] !== value,
  );
  if (given !== undefined)
    throw new KilnError(
      'bad-request',
      `${given[0]} is set, and without a role kilnd keeps everything below --data; unset it, or start the roles one by one (kilnd api, builder, signer)`,
    );
};

/** Where the builder gives its metrics: at the port behind the API's. */
const nextMetrics = (given: string | undefined): Record<string, string> => {
  if (given === undefined) return {};
  const { host, port } = parseMetricsAddress(given);
  return {
    KILN_METRICS: `${host.includes(':') ? `[${host}]` : host}:${port === 0 ? 0 : port + 1}`,
  };
};

const parseListen = (listen: string): { host: string; port: number } => {
  const match = /^(.+):(\d{1,5})$/.exec(listen);
  if (match?.[1] === undefined || Number(match[2]) > 65535) {
    throw new KilnError(
      'bad-request',
      `${JSON.stringify(listen)} is not a HOST:PORT to listen on (--listen, KILN_HOST, KILN_PORT)`,
    );
  }
  return { host: match[1].replace(/^\[(.*)\]$/, '$1'), port: Number(match[2]) };
};
