import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { keyPlaces, makeKeys } from '../../services/machine/make-keys.ts';
import { startRedis } from '../../services/machine/own-redis.ts';
import { noteKilnd } from './containers.ts';
import { adminClient, type AdminClient } from './kiln-service.ts';
import { laySeed } from './lay-seed.ts';
import { startBalancer } from './nginx.ts';
import { KILND, NODE } from './places.ts';

/** A role, as a process of its own. */
export interface RunningRole {
  /** Where an API answers. */
  readonly url: string;
  readonly process: ChildProcess;
  stop(): Promise<void>;
}

/** A Kiln whose roles were started one by one, as on machines of their own, with a Redis beside them. */
export interface KilnRoles extends AdminClient {
  /** The API's; where there are several, that of nginx before them. */
  readonly url: string;
  readonly data: string;
  readonly apis: readonly RunningRole[];
  /** Starts an API again, where it was. */
  restart(api: RunningRole): Promise<void>;
  /** What the roles said so far. */
  output(): string;
  stop(): Promise<void>;
}

/** Ids of builds that no other builder on this machine's Docker has. */
const BUILD_USERS = '2100002000-2100002009';

/**
 * Starts APIs, a builder and a signer with keys (those that are there stay) and caches below a directory; `settings` are for all of them, and
 * say where blobs are, `ofApis` for the APIs, and say where the record is.
 */
export const startRoles = async (
  data: string,
  {
    count = 1,
    settings = {},
    ofApis = {},
  }: {
    readonly count?: number;
    readonly settings?: NodeJS.ProcessEnv;
    readonly ofApis?: NodeJS.ProcessEnv;
  },
): Promise<KilnRoles> => {
  const at = (name: string): string => join(data, name);
  await mkdir(data, { recursive: true });
  await noteKilnd(data);
  await laySeed(data);
  const keys = keyPlaces(at('keys'));
  await makeKeys(at('keys'), keys);
  const redis = await startRedis(at('redis'));
  const common = {
    PATH: process.env['PATH'],
    TMPDIR: process.env['TMPDIR'],
    NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'],
    KILN_REDIS: redis.address,
    KILN_BLOBS: at('blobs'),
    KILN_LOG_LEVEL: 'warn',
    ...settings,
  };
  let said = '';

  const startRole = async (
    role: 'api' | 'builder' | 'signer',
    own: NodeJS.ProcessEnv,
  ): Promise<RunningRole> => {
    // However the tests end, it ends with them.
    const child = spawn('setpriv', ['--pdeathsig', 'TERM', NODE, KILND, role], {
      env: { ...common, KILN_KEY: keys.privateKey(role), ...own },
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    child.stderr?.on('data', (piece: Buffer) => (said += piece.toString()));
    const url = await new Promise<string>((resolve, reject) => {
      child.once('message', (message) => resolve((message as { url?: string }).url ?? ''));
      child.once('exit', (code) => reject(new Error(`${role} ended with ${code}:\n${said}`)));
    });
    return {
      url,
      process: child,
      async stop() {
        if (child.exitCode !== null || child.signalCode !== null) return;
        const ended = once(child, 'exit');
        child.kill('SIGTERM');
        await ended;
      },
    };
  };

  const certificate = { KILN_SIGNING_CERTIFICATE: keys.signingCertificate };
  const coordinator = { KILN_COORDINATOR: keys.publicKeys('api') };
  const startApi = (number: number, port = '0'): Promise<RunningRole> =>
    startRole('api', {
      KILN_BUILDERS: keys.publicKeys('builder'),
      KILN_SIGNERS: keys.publicKeys('signer'),
      KILN_REPOSITORY_PUBLIC_KEY: keys.repositoryPublicKey,
      KILN_DATABASE: at('kiln.sqlite'),
      KILN_ARCHIVES: at(`archives-${number}`),
      KILN_PORT: port,
      ...certificate,
      ...(number === 0 ? { KILN_ADMIN_TOKEN_FILE: at('admin.token') } : {}),
      ...ofApis,
    });
  const started: RunningRole[] = [];
  const kept = async (starting: Promise<RunningRole>): Promise<RunningRole> => {
    const role = await starting;
    started.push(role);
    return role;
  };
  const stop = async (): Promise<void> => {
    await Promise.all(started.map((role) => role.stop()));
    await redis.stop();
  };
  try {
    const builder = { KILN_BUILDER_CACHE: at('builder'), KILN_BUILD_USERS: BUILD_USERS };
    const signer = { KILN_SIGNING_KEY: keys.signingKey, KILN_REPOSITORY_KEY: keys.repositoryKey };
    const [apis] = await Promise.all([
      Promise.all(Array.from({ length: count }, (_, number) => kept(startApi(number)))),
      kept(startRole('builder', { ...coordinator, ...builder })),
      kept(startRole('signer', { ...coordinator, ...certificate, ...signer })),
    ]);
    const urls = apis.map(({ url }) => url);
    const proxy =
      count === 1 ? null : await startBalancer(urls.map((each) => each.replace('http://', '')));
    const url = proxy?.url ?? urls[0] ?? '';
    return {
      url,
      data,
      apis,
      output: () => said,
      async restart(api) {
        await api.stop();
        const number = apis.indexOf(api);
        apis[number] = await kept(startApi(number, new URL(api.url).port));
      },
      async stop() {
        await stop();
        await proxy?.close();
      },
      ...adminClient(url, data),
    };
  } catch (error) {
    await stop();
    throw error;
  }
};
