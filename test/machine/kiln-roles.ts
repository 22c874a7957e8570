import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { keyPlaces, makeKeys } from '../../services/machine/make-keys.ts';
import { startRedis } from '../../services/machine/own-redis.ts';
import type { DatabaseServer } from '../../services/storage/database-address.ts';
import { noteKilnd } from './containers.ts';
import { laySeed } from './lay-seed.ts';
import { startBalancer } from './nginx.ts';
import { CLIENT, KILND } from './places.ts';
import { run, type Ran } from './run.ts';

/** A role, as a process of its own. */
export interface RunningRole {
  readonly name: string;
  /** Where an API answers. */
  readonly url: string;
  readonly process: ChildProcess;
  stop(): Promise<void>;
  /** What it has said. */
  output(): string;
}

/** Several APIs behind nginx, with a builder and a signer, on one record. */
export interface KilnRoles {
  readonly url: string;
  readonly data: string;
  readonly apis: readonly RunningRole[];
  /** Starts an API again, where it was. */
  restart(api: RunningRole): Promise<void>;
  kiln(...args: string[]): Promise<Ran>;
  json<T>(...args: string[]): Promise<T>;
  output(): string;
  stop(): Promise<void>;
}

/** Starts them below a directory. */
export const startRoles = async (
  data: string,
  record: DatabaseServer,
  count: number,
): Promise<KilnRoles> => {
  const at = (name: string): string => join(data, name);
  await mkdir(data, { recursive: true });
  await noteKilnd(data);
  await laySeed(data);
  await writeFile(at('database.password'), record.password ?? '', { mode: 0o600 });
  const keys = keyPlaces(at('keys'));
  await makeKeys(at('keys'), keys);
  const redis = await startRedis(at('redis'));
  const common = {
    PATH: process.env['PATH'],
    NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'],
    KILN_REDIS: redis.address,
    KILN_BLOBS: at('blobs'),
    KILN_LOG_LEVEL: 'warn',
  };
  const said: string[] = [];

  const startRole = async (
    role: 'api' | 'builder' | 'signer',
    own: NodeJS.ProcessEnv,
  ): Promise<RunningRole> => {
    const child = fork(KILND, [role], {
      env: { ...common, KILN_KEY: keys.privateKey(role), ...own },
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    let words = '';
    child.stderr?.on('data', (piece: Buffer) => {
      words += piece.toString();
      said.push(piece.toString());
    });
    const url = await new Promise<string>((resolve, reject) => {
      child.once('message', (message: { readonly url?: string }) => resolve(message.url ?? ''));
      child.once('exit', (code) => reject(new Error(`${role} ended with ${code}: ${words}`)));
    });
    return {
      name: role,
      url,
      process: child,
      output: () => words,
      async stop() {
        if (child.exitCode !== null || child.signalCode !== null) return;
        const ended = once(child, 'exit');
        child.kill('SIGTERM');
        await ended;
      },
    };
  };

  const startApi = (number: number, port: string): Promise<RunningRole> =>
    startRole('api', {
      KILN_BUILDERS: keys.publicKeys('builder'),
      KILN_SIGNERS: keys.publicKeys('signer'),
      KILN_SIGNING_CERTIFICATE: keys.signingCertificate,
      KILN_REPOSITORY_PUBLIC_KEY: keys.repositoryPublicKey,
      KILN_DATABASE: record.url,
      KILN_DATABASE_PASSWORD_FILE: at('database.password'),
      KILN_ARCHIVES: at(`archives-${number}`),
      KILN_PORT: port,
      ...(number === 0 ? { KILN_ADMIN_TOKEN_FILE: at('admin.token') } : {}),
    });
  const apis = await Promise.all(
    Array.from({ length: count }, (_, number) => startApi(number, '0')),
  );
  const certificate = { KILN_SIGNING_CERTIFICATE: keys.signingCertificate };
  const coordinator = { KILN_COORDINATOR: keys.publicKeys('api') };
  const others = await Promise.all([
    startRole('builder', { ...coordinator, KILN_BUILDER_CACHE: at('builder') }),
    startRole('signer', {
      ...coordinator,
      ...certificate,
      KILN_SIGNING_KEY: keys.signingKey,
      KILN_REPOSITORY_KEY: keys.repositoryKey,
    }),
  ]);
  const proxy = await startBalancer(apis.map(({ url }) => url.replace('http://', '')));
  const environment = {
    ...process.env,
    KILN_SERVER: proxy.url,
    KILN_TOKEN_FILE: at('admin.token'),
    KILN_CONFIG: at('client.config'),
  };
  const kiln = (...args: string[]): Promise<Ran> => run(CLIENT, args, { env: environment });
  const running = [...apis];
  return {
    url: proxy.url,
    data,
    apis: running,
    kiln,
    output: () => said.join(''),
    async restart(api) {
      await api.stop();
      const number = running.indexOf(api);
      running[number] = await startApi(number, new URL(api.url).port);
    },
    async json<T>(...args: string[]): Promise<T> {
      const { status, stdout, stderr } = await kiln(...args, '--json', '--quiet');
      if (status !== 0) throw new Error(`kiln ${args.join(' ')} ended with ${status}: ${stderr}`);
      return JSON.parse(stdout) as T;
    },
    async stop() {
      await Promise.all([...running, ...others].map((role) => role.stop()));
      await proxy.close();
      await redis.stop();
    },
  };
};
