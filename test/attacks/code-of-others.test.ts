import { chmod, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { startTls } from '../machine/faulty-network.ts';
import { dkmsSource, freshDirectory, writeTree } from '../machine/make-source.ts';
import { CLIENT } from '../machine/places.ts';
import { mustRun, run, type Ran } from '../machine/run.ts';
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

/** Git in a directory, as somebody who commits there. */
const gitIn =
  (directory: string) =>
  (...args: string[]): Promise<string> =>
    mustRun('git', [
      ...`-C ${directory} -c user.name=a -c user.email=a@b.c -c protocol.file.allow=always`.split(
        ' ',
      ),
      ...args,
    ]);

/** A checkout that is clean, whose repository is hostile: what `arm` sets runs `script`. */
const hostileCheckout = async (
  name: string,
  arm: (directory: string, script: string) => Promise<void>,
): Promise<{ directory: string; mark: string }> => {
  const directory = await dkmsSource(name, '', { '.gitattributes': '*.c filter=x diff=x\n' });
  const traps = await freshDirectory('traps');
  const mark = join(traps, MARK);
  const script = join(traps, 'script');
  await writeFile(script, `#!/bin/sh\ntouch ${mark}\n`);
  await chmod(script, 0o755);
  const git = gitIn(directory);
  await git('init', '-q');
  await git('add', '.');
  await git('commit', '-q', '-m', 'first');
  await arm(directory, script);
  return { directory, mark };
};

const config =
  (...pairs: (readonly [string, (script: string) => string])[]) =>
  async (directory: string, script: string): Promise<void> => {
    for (const [key, value] of pairs) await gitIn(directory)('config', key, value(script));
    // What Git has noted of the file is out of date: it reads it again, through the filter.
    await mustRun('touch', ['-d', '2020-01-01', ...(await sourcesIn(directory))]);
  };

const sourcesIn = async (directory: string): Promise<string[]> =>
  (await readdir(directory))
    .filter((name) => name.endsWith('.c'))
    .map((name) => join(directory, name));

describe('a source in a hostile Git repository', () => {
  it.each<[string, (directory: string, script: string) => Promise<void>]>([
    ['a file system monitor', config(['core.fsmonitor', (script) => script])],
    ['a filter', config(['filter.x.clean', (script) => script])],
    ['a filter that runs as a process', config(['filter.x.process', (script) => script])],
    [
      'a monitor in a configuration that it includes',
      async (directory, script) => {
        const included = join(await freshDirectory('included'), 'config');
        await writeFile(included, `[core]\nfsmonitor = ${script}\n`);
        await config(['include.path', () => included])(directory, script);
      },
    ],
    [
      'a monitor in the configuration of its worktree',
      async (directory, script) => {
        await writeFile(join(directory, '.git/config.worktree'), `[core]\nfsmonitor = ${script}\n`);
        await config(['extensions.worktreeConfig', () => 'true'])(directory, script);
      },
    ],
    [
      'hooks',
      async (directory, script) => {
        const hook = join(directory, '.git/hooks/post-index-change');
        await mkdir(join(directory, '.git/hooks'), { recursive: true });
        await writeFile(hook, await readFile(script));
        await chmod(hook, 0o755);
        await config()(directory, script);
      },
    ],
    [
      'hooks elsewhere',
      async (directory, script) => {
        const hooks = await freshDirectory('hooks');
        await writeFile(join(hooks, 'post-index-change'), await readFile(script));
        await chmod(join(hooks, 'post-index-change'), 0o755);
        await config(['core.hooksPath', () => hooks])(directory, script);
      },
    ],
    [
      'objects that are to be fetched with a program of its own',
      async (directory, script) => {
        await config(
          ['core.repositoryFormatVersion', () => '1'],
          ['extensions.partialClone', () => 'origin'],
          ['remote.origin.promisor', () => 'true'],
          ['remote.origin.url', () => 'ssh://nowhere/x'],
          ['core.sshCommand', (each) => each],
        )(directory, script);
        const tree = (await gitIn(directory)('rev-parse', 'HEAD^{tree}')).trim();
        await rm(join(directory, '.git/objects', tree.slice(0, 2), tree.slice(2)));
      },
    ],
    [
      'a submodule whose repository has a monitor',
      async (directory, script) => {
        const other = await hostileCheckout('submodule', async () => {});
        await gitIn(directory)('submodule', 'add', '-q', other.directory, 'below');
        await gitIn(directory)('commit', '-q', '-m', 'second');
        await gitIn(join(directory, 'below'))('config', 'core.fsmonitor', script);
      },
    ],
    [
      'no .git at its top but a bare repository’s files, with a monitor',
      async (directory, script) => {
        await config(['core.fsmonitor', () => script])(directory, script);
        await gitIn(directory)('config', 'core.worktree', directory);
        await gitIn(directory)('config', 'core.bare', 'false');
        for (const name of await readdir(join(directory, '.git')))
          await rename(join(directory, '.git', name), join(directory, name));
        await rm(join(directory, '.git'), { recursive: true });
      },
    ],
    [
      'a .git that leads to a repository elsewhere, with a monitor',
      async (directory, script) => {
        await config(['core.fsmonitor', () => script])(directory, script);
        const elsewhere = join(await freshDirectory('elsewhere'), 'repository');
        await rename(join(directory, '.git'), elsewhere);
        await writeFile(join(directory, '.git'), `gitdir: ${elsewhere}\n`);
      },
    ],
  ])('that has %s is pushed, and nothing of it runs', async (_, arm) => {
    const { directory, mark } = await hostileCheckout(`hostile-${Date.now()}`, arm);
    const { status, stderr } = await kiln.kiln('source', 'push', directory);
    expect({ status, stderr }).toEqual({ status: 0, stderr: expect.any(String) });
    expect(await stat(mark).catch(() => 'did not run')).toBe('did not run');
  });
});
