import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { randomUUID } from 'node:crypto';
import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { DatabaseServer } from '../../services/storage/database-address.ts';
import { freePort } from './faulty-network.ts';
import { freshDirectory } from './make-source.ts';
import { mustRun, run } from './run.ts';
import { until } from './until.ts';

/** Debian's PostgreSQL, a server of one's own. Its texts are ordered as a dictionary has them, where nobody says otherwise. */
export interface Postgres {
  /** Its first database. */
  readonly server: DatabaseServer;
  /** A new, empty database. */
  newDatabase(): Promise<DatabaseServer>;
  /** Ends it, at once and without tidying up if `isHard`. */
  stop(isHard?: boolean): Promise<void>;
  /** Starts it again. */
  start(): Promise<void>;
}

const PROGRAMS = '/usr/lib/postgresql/15/bin';
/** It does not run as root: it is told that it is somebody else. */
const asSomebody = (program: string, args: readonly string[]): readonly string[] => {
  const somebody = '--user --map-user=65534 --map-group=65534'.split(' ');
  return [...somebody, join(PROGRAMS, program), ...args];
};

/** What psql prints of statements. */
export const psql = ({ url, password = '' }: DatabaseServer, statements: string): Promise<string> =>
  mustRun(join(PROGRAMS, 'psql'), ['-qAtX', '-v', 'ON_ERROR_STOP=1', url], {
    env: { ...process.env, PGPASSWORD: password },
    input: statements,
  });

/** A database of some name on a server, made where it is not there. */
export const databaseOn = async (server: DatabaseServer, name: string): Promise<DatabaseServer> => {
  const missing = `not exists (select from pg_database where datname = '${name}')`;
  await psql(server, `select 'create database ${name}' where ${missing} \\gexec`);
  const url = new URL(server.url);
  url.pathname = name;
  return { ...server, url: url.href };
};

export const startPostgres = async (): Promise<Postgres> => {
  const place = await freshDirectory('postgres');
  const data = join(place, 'data');
  const password = randomUUID();
  await writeFile(join(place, 'password'), password);
  const ordering = '--encoding=UTF8 --locale-provider=icu --icu-locale=en-US'.split(' ');
  const access = ['-U', 'kiln', '-A', 'scram-sha-256', '--pwfile', join(place, 'password')];
  await mustRun('unshare', asSomebody('initdb', ['-D', data, '--no-sync', ...ordering, ...access]));
  const port = await freePort();
  const settings = [
    'listen_addresses=127.0.0.1',
    `port=${port}`,
    `unix_socket_directories=${place}`,
    'max_connections=200',
    'fsync=off',
    'jit=off',
  ].flatMap((each) => ['-c', each]);
  const server = { url: `postgres://kiln@127.0.0.1:${port}/postgres`, password };
  const log = await open(join(place, 'log'), 'a');
  let child: ChildProcess;
  let ended: Promise<unknown>;

  const start = async (): Promise<void> => {
    child = spawn('unshare', asSomebody('postgres', ['-D', data, ...settings]), {
      stdio: ['ignore', 'ignore', log.fd],
    });
    ended = once(child, 'exit');
    await until('PostgreSQL answers', async () => {
      if (child.exitCode !== null) throw new Error(`PostgreSQL ended with ${child.exitCode}`);
      const args = ['-q', '-h', '127.0.0.1', '-p', String(port)];
      return (await run(join(PROGRAMS, 'pg_isready'), args)).status === 0;
    });
  };
  await start();

  return {
    server,
    start,
    newDatabase: () => databaseOn(server, `kiln_${randomUUID().replaceAll('-', '')}`),
    async stop(isHard = false) {
      child.kill(isHard ? 'SIGQUIT' : 'SIGINT');
      await ended;
    },
  };
};
