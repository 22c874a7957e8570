import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { keyPlaces, makeKeys } from '../../services/machine/make-keys.ts';
import { noteKilnd } from './containers.ts';
import { adminClient, type AdminClient } from './kiln-service.ts';
import { KILND, NODE } from './places.ts';
import { until } from './until.ts';

/** A Kiln whose roles were started one by one, as on machines of their own, with a Redis beside them. */
export interface Roles extends AdminClient {
  readonly url: string;
  /** What the roles said so far. */
  output(): string;
  stop(): Promise<void>;
}

/** Ids of builds that no other builder on this machine's Docker has. */
const BUILD_USERS = '2100002000-2100002009';

/** A program that ends with the test that started it, at the latest. */
const start = (command: readonly string[], env: NodeJS.ProcessEnv): ChildProcess =>
  spawn('setpriv', ['--pdeathsig', 'TERM', ...command], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    env: { PATH: process.env['PATH'], TMPDIR: process.env['TMPDIR'], ...env },
  });

const end = async (child: ChildProcess): Promise<void> => {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  await ended;
};

/**
 * Starts api, builder and signer with a record, keys (those that are there stay) and caches below a directory; `settings` are for all
 * three, and say where blobs are.
 */
export const startRoles = async (data: string, settings: NodeJS.ProcessEnv): Promise<Roles> => {
  await noteKilnd(data);
  const at = (name: string): string => join(data, name);
  await mkdir(at('redis'), { recursive: true });
  const keys = keyPlaces(at('keys'));
  await makeKeys(at('keys'), keys);
  const socket = at('redis/redis.sock');
  const lasting = ['--dir', at('redis'), '--appendonly', 'yes', '--save', ''];
  const redis = start(['redis-server', '--port', '0', '--unixsocket', socket, ...lasting], {});
  await until('Redis listens', () =>
    stat(socket).then(
      () => true,
      () => false,
    ),
  );

  const common = { KILN_REDIS: `unix:${socket}`, KILN_LOG_LEVEL: 'warn', ...settings };
  const coordinator = { KILN_COORDINATOR: keys.publicKeys('api') };
  const certificate = { KILN_SIGNING_CERTIFICATE: keys.signingCertificate };
  const own = {
    api: {
      KILN_BUILDERS: keys.publicKeys('builder'),
      KILN_SIGNERS: keys.publicKeys('signer'),
      KILN_REPOSITORY_PUBLIC_KEY: keys.repositoryPublicKey,
      KILN_DATABASE: at('kiln.sqlite'),
      KILN_ADMIN_TOKEN_FILE: at('admin.token'),
      KILN_PORT: '0',
      ...certificate,
    },
    builder: {
      KILN_BUILDER_CACHE: at('builder'),
      KILN_BUILD_USERS: BUILD_USERS,
      ...coordinator,
    },
    signer: {
      KILN_SIGNING_KEY: keys.signingKey,
      KILN_REPOSITORY_KEY: keys.repositoryKey,
      ...certificate,
      ...coordinator,
    },
  };
  let said = '';
  const startRole = (role: keyof typeof own): { child: ChildProcess; url: Promise<string> } => {
    const environment = { ...common, KILN_KEY: keys.privateKey(role), ...own[role] };
    const child = start([NODE, KILND, role], environment);
    child.stderr?.on('data', (piece: Buffer) => (said += piece.toString()));
    const url = new Promise<string>((resolve, reject) => {
      child.once('message', (message) => resolve((message as { url?: string }).url ?? ''));
      child.once('exit', (code) => reject(new Error(`${role} ended with ${code}:\n${said}`)));
    });
    return { child, url };
  };
  const roles = (['api', 'builder', 'signer'] as const).map(startRole);
  const stop = async (): Promise<void> => {
    await Promise.all(roles.map(({ child }) => end(child)));
    await end(redis);
  };
  try {
    const [url = ''] = await Promise.all(roles.map((role) => role.url));
    return { url, output: () => said, stop, ...adminClient(url, data) };
  } catch (error) {
    await stop();
    throw error;
  }
};
