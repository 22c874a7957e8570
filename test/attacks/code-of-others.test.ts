import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { startTls } from '../machine/faulty-network.ts';
import { writeTree } from '../machine/make-source.ts';
import { CLIENT } from '../machine/places.ts';
import { run, type Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';

/** Code that lies where the client is called, or that its runtime would take from variables: none of it runs. */

const kiln = sharedKiln();
const MARK = 'it-ran';

/** Code that leaves a mark where it runs, and what would have a runtime run it once it is told of it. */
const BAIT = {
  'evil.js': `require('node:fs').appendFileSync(${JSON.stringify(MARK)}, 'x');`,
  'other.toml': 'preload = ["./evil.js"]\n',
  overrides: 'override !@#{!@#\n    require("node:fs");\n!@#\n',
};

/** A directory with all that a JavaScript runtime takes from one by itself. */
const trap = (): Promise<string> =>
  writeTree('trap', {
    ...BAIT,
    'bunfig.toml': BAIT['other.toml'],
    '.env': 'KILN_SERVER=http://127.0.0.1:9\nKILN_CONFIG=/nowhere\n',
    '.env.local': 'KILN_SERVER=http://127.0.0.1:9\n',
    '.env.production': 'KILN_SERVER=http://127.0.0.1:9\n',
    'package.json': '{ "type": "module", "imports": { "#a": "./evil.js" } }',
    'tsconfig.json': '{ "compilerOptions": { "paths": { "*": ["./evil.js"] } } }',
  });

/** Calls the client within a directory, with the service's address and these variables. */
const callIn = (cwd: string, env: NodeJS.ProcessEnv, ...args: string[]): Promise<Ran> =>
  run('timeout', ['20', CLIENT, ...args], {
    cwd,
    env: {
      PATH: process.env['PATH'],
      KILN_SERVER: kiln.url,
      KILN_TOKEN_FILE: join(kiln.data, 'admin.token'),
      KILN_CONFIG: join(kiln.data, 'no.config'),
      ...env,
    },
  });

describe('a directory of somebody else', () => {
  it('has a bunfig.toml with a preload: nothing of it runs, and the command does what it does anywhere', async () => {
    const directory = await trap();
    const names = await readdir(directory);
    expect(await callIn(directory, {}, 'kernel', 'list')).toMatchObject({ status: 0 });
    expect(await readdir(directory)).toEqual(names);
  });

  it('has .env files that name another service and configuration: neither is asked', async () => {
    const config = join(await trap(), 'own.config');
    const token = join(kiln.data, 'admin.token');
    await writeFile(config, `server = ${kiln.url}\ntoken-file = ${token}\n`);
    const unsaid = { KILN_SERVER: undefined, KILN_TOKEN_FILE: undefined, KILN_CONFIG: config };
    for (const env of [unsaid, { ...unsaid, NODE_ENV: 'production' }])
      expect(
        await callIn(await trap(), env, 'kernel', 'list', '--patience', '0', '--json'),
      ).toMatchObject({ status: 0, stderr: '' });
  });

  it('is not opened, nor any file in it, by a command that names none', async () => {
    const directory = await trap();
    const log = join(await trap(), 'strace');
    const traced = await run('strace', ['-f', '-e', 'trace=%file', '-o', log, CLIENT, '--help'], {
      cwd: directory,
    });
    expect(traced.status).toBe(0);
    const calls = (await readFile(log, 'utf8')).split('\n');
    const inside = calls.filter(
      (call) => call.includes(directory) || /(\w\(|AT_FDCWD, )"[^/"]/.test(call),
    );
    expect(inside.filter((call) => !/ (getcwd|execve)\(/.test(call))).toEqual([]);
  });
});

describe('variables of the runtime', () => {
  it.each([
    ['BUN_OPTIONS', '--preload ./evil.js'],
    ['BUN_OPTIONS', '--config=./other.toml'],
    ['BUN_BE_BUN', '1'],
    ['BUN_INSPECT', 'ws://127.0.0.1:0/x?wait=1'],
    ['BUN_JSC_functionOverrides', './overrides'],
    ['BUN_JSC_dumpOptions', '1'],
    ['BUN_BYTECODE_ORDER_OUT', './written'],
    ['BUN_BYTECODE_DIGEST_OUT', './written'],
    ['NODE_OPTIONS', '--require ./evil.js'],
    ['NODE_OPTIONS', '--import=./evil.js'],
    ['NODE_REDIRECT_WARNINGS', './written'],
    ['JSC_functionOverrides', './overrides'],
  ])('%s=%s changes nothing: no other code, no file, no word', async (name, value) => {
    const directory = await writeTree('bait', BAIT);
    const names = await readdir(directory);
    const plain = await callIn(directory, {}, 'kernel', 'list', '--json');
    expect(await callIn(directory, { [name]: value }, 'kernel', 'list', '--json')).toEqual(plain);
    expect(plain.status).toBe(0);
    expect(await readdir(directory)).toEqual(names);
  });

  let tls: Awaited<ReturnType<typeof startTls>>;
  beforeAll(async () => {
    tls = await startTls(kiln.url);
  });
  afterAll(() => tls.close());

  it.each([
    ['NODE_TLS_REJECT_UNAUTHORIZED', '0'],
    ['NODE_EXTRA_CA_CERTS', 'ca'],
  ])('%s does not make a certificate trusted', async (name, value) => {
    const env = { [name]: value === 'ca' ? tls.ca : value };
    const server = ['--server', `https://127.0.0.1:${tls.port}`, '--patience', '0'];
    const trusted = await callIn('/', {}, 'kernel', 'list', ...server, '--ca', tls.ca);
    expect(trusted.status).toBe(0);
    const { status, stderr } = await callIn('/', env, 'kernel', 'list', ...server);
    expect({ status, stderr }).toEqual({
      status: 5,
      stderr: expect.stringContaining('certificate not trusted'),
    });
  });
});
