import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { link, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { noteKilnd } from './containers.ts';
import { laySeed } from './lay-seed.ts';
import { CLIENT, KILND, NODE, TOOLCHAIN, type MadeToolchain } from './places.ts';
import { recordSettings } from './record-place.ts';
import { mustRun, run, type Ran, type RunOptions } from './run.ts';

/** The shipped client, as the admin of a Kiln. */
export interface AdminClient {
  adminToken(): Promise<string>;
  /** Runs it. */
  kiln(...args: string[]): Promise<Ran>;
  /** Its JSON answer; throws with what it said if it failed. */
  json<T>(...args: string[]): Promise<T>;
}

/** A running kilnd with an admin's client for it. */
export interface KilnService extends AdminClient {
  readonly url: string;
  readonly data: string;
  readonly process: ChildProcess;
  /** What kilnd and its roles said so far. */
  output(): string;
  stop(): Promise<number>;
}

/** The client for the Kiln at a URL, whose admin's token is in its directory. */
export const adminClient = (url: string, data: string): AdminClient => {
  const environment = {
    ...process.env,
    KILN_SERVER: url,
    KILN_TOKEN_FILE: join(data, 'admin.token'),
    KILN_CONFIG: join(data, 'client.config'),
  };
  const kiln = (...args: string[]): Promise<Ran> =>
    run(CLIENT, args, { env: environment } satisfies RunOptions);
  return {
    adminToken: async () => (await readFile(join(data, 'admin.token'), 'utf8')).trim(),
    kiln,
    async json<T>(...args: string[]): Promise<T> {
      const { status, stdout, stderr } = await kiln(...args, '--json', '--quiet');
      if (status !== 0) throw new Error(`kiln ${args.join(' ')} ended with ${status}: ${stderr}`);
      return JSON.parse(stdout) as T;
    },
  };
};

/** Starts kilnd on a data directory and waits until it answers; where `listen` is `null`, on the port of its settings. */
export const startKiln = async (
  data: string,
  settings: NodeJS.ProcessEnv = {},
  listen: string | null = '127.0.0.1:0',
): Promise<KilnService> => {
  await noteKilnd(data);
  await laySeed(data);
  const kilnd = [NODE, KILND, '--data', data, ...(listen === null ? [] : ['--listen', listen])];
  // However the tests end, it ends with them, and cleans up.
  const child = spawn('setpriv', ['--pdeathsig', 'TERM', ...kilnd], {
    env: { ...process.env, ...(await recordSettings(data)), ...settings },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const lines: string[] = [];
  createInterface({ input: child.stderr }).on('line', (line) => lines.push(line));
  const url = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      lines.push(line);
      if (line.startsWith('http://')) resolve(line);
    });
    child.once('exit', (code) =>
      reject(new Error(`kilnd ended with ${code}:\n${lines.join('\n')}`)),
    );
  });
  return {
    url,
    data,
    process: child,
    output: () => lines.join('\n'),
    ...adminClient(url, data),
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return child.exitCode ?? 1;
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      const [code] = (await ended) as [number | null];
      return code ?? 1;
    },
  };
};

/** Pins a toolchain in a service; its digest. The third of a gigabyte is laid among its blobs beforehand, and so not sent. */
export const pinToolchain = async (
  service: Pick<KilnService, 'data' | 'json'>,
  { name, tar }: MadeToolchain = TOOLCHAIN,
): Promise<string> => {
  const hash = (await mustRun('sha256sum', [tar])).slice(0, 64);
  const folder = join(service.data, 'blobs', hash.slice(0, 2));
  await mkdir(folder, { recursive: true, mode: 0o700 });
  // Elsewhere than on one file system, and a second time, it takes the usual way.
  await link(tar, join(folder, hash)).catch(() => {});
  return (await service.json<{ digest: string }>('toolchain', 'push', tar, '--name', name)).digest;
};
