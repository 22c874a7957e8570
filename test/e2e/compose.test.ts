import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { digestOf, hexOf } from '../../services/core/digest.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { relayArchive } from '../machine/archive-relay.ts';
import { noteKilnd } from '../machine/containers.ts';
import { debianPackage } from '../machine/debian.ts';
import { freePort } from '../machine/faulty-network.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { CHECKOUT, CLIENT, TOOLCHAIN } from '../machine/places.ts';
import { mustRun, run } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { until } from '../machine/until.ts';

describe('compose.yaml', () => {
  const shared = sharedKiln();
  /** One for each checkout: what a run that was broken off left is this one's to remove. */
  const project = `kilntest-${hexOf(digestOf(CHECKOUT)).slice(0, 12)}`;
  let environment: NodeJS.ProcessEnv;
  const compose = (...args: string[]): Promise<string> =>
    mustRun('docker-compose', ['-p', project, '-f', 'compose.yaml', ...args], {
      cwd: CHECKOUT,
      env: environment,
    });
  const kiln = async (...args: string[]): Promise<string> =>
    mustRun(CLIENT, args, { env: environment });
  /** A fact of a container or a network. */
  const inspect = async (name: string, format: string): Promise<string> =>
    (await mustRun('docker', ['inspect', '-f', format, name])).trim();

  beforeAll(async () => {
    const directory = await freshDirectory('compose');
    await noteKilnd(directory);
    const port = await freePort();
    environment = {
      ...process.env,
      KILN_IMAGE: `kiln:${project}`,
      KILN_PORT: String(port),
      KILN_BUILDER_CACHE: join(directory, 'builder'),
      KILN_SERVER: `http://127.0.0.1:${port}`,
      KILN_TOKEN_FILE: join(directory, 'token'),
      COMPOSE_PROJECT_NAME: project,
    };
    await compose('down', '-v', '--remove-orphans', '--timeout', '0');
    await mustRun(join(CHECKOUT, 'images/make-service-image'), [`kiln:${project}`]);
    await compose('up', '-d');
    const isReady = (): Promise<boolean> =>
      fetch(`http://127.0.0.1:${port}/readyz`).then(
        ({ ok }) => ok,
        () => false,
      );
    await until('the API is ready', isReady).catch(async (error: unknown) => {
      throw new Error(await compose('logs'), { cause: error });
    });
    await writeFile(
      join(directory, 'token'),
      await compose('exec', '-T', 'api', 'cat', '/record/admin.token'),
    );
  });

  afterAll(async () => {
    await compose('down', '-v', '--timeout', '15');
    await run('docker', ['rmi', `kiln:${project}`]);
  });

  it('starts roles that build and sign the same bytes as kilnd does', async () => {
    await kiln('toolchain', 'push', TOOLCHAIN.tar, '--name', TOOLCHAIN.name, '-q');
    const there = JSON.parse(
      await kiln('build', shared.source, '-k', shared.headers, '--json', '-q'),
    ) as BuildView;
    const here = await shared.json<BuildView>('build', 'v4l2loopback', '-k', shared.release);
    expect(there).toMatchObject({
      state: 'succeeded',
      fingerprint: here.fingerprint,
      signature: { kind: 'signed' },
    });
    expect(there.modules[0]?.unsigned).toBe(here.modules[0]?.unsigned);
  });

  it('takes a kernel in from the archive it follows, and builds what is marked for it', async () => {
    const gateway = await inspect(`${project}_front`, '{{(index .IPAM.Config 0).Gateway}}');
    const archive = await relayArchive(gateway);
    try {
      const file = join(await freshDirectory('sources'), 'archive.sources');
      await writeFile(file, archive.sources);
      const headers = String.raw`linux-headers-(?<release>6\.1\.0-\d+-(?<flavour>cloud-amd64))`;
      await kiln('archive', 'add', 'debian-12', '--sources', file, '--headers', headers);
      await kiln('source', 'push', await debianPackage('bbswitch-dkms'), '-q');
      const sync = JSON.parse(await kiln('kernel', 'sync', '--wait', '--json', '-q')) as {
        readonly kernels: readonly { readonly release: string; readonly isNew: boolean }[];
        readonly builds: readonly string[];
      };
      expect(sync).toMatchObject({ kernels: [{ isNew: true }], problems: [] });
      const made = await Promise.all(
        sync.builds.map(async (id) => JSON.parse(await kiln('show', id, '--json')) as BuildView),
      );
      expect(made.find(({ source }) => source.name === 'bbswitch')).toMatchObject({
        state: 'succeeded',
        signature: { kind: 'signed' },
      });
    } finally {
      await archive.close();
    }
  });

  it('gives each role its own and nothing more', async () => {
    const sees = async (role: string): Promise<string[]> => {
      const keys = ['api', 'builder', 'signer'].map((each) => `/keys/${each}/key.pem`);
      const secrets = ['/keys/signer/signing.pem', '/keys/redis/users.acl', ...keys];
      const places = [...secrets, '/record/kiln.sqlite', '/var/run/docker.sock'];
      const probe = `for (const p of ${JSON.stringify(places)}) if (fs.existsSync(p)) console.log(p)`;
      const found = await compose(
        'exec',
        '-T',
        role,
        '/usr/local/bin/node',
        '-e',
        `const fs = require("node:fs"); ${probe}`,
      );
      return found.trim().split('\n').filter(Boolean);
    };
    expect(await sees('api')).toEqual(['/keys/api/key.pem', '/record/kiln.sqlite']);
    expect(await sees('builder')).toEqual(['/keys/builder/key.pem', '/var/run/docker.sock']);
    expect(await sees('signer')).toEqual(['/keys/signer/signing.pem', '/keys/signer/key.pem']);
  });

  it('lets each role’s user of Redis do what its role does, and nothing of another’s', async () => {
    const as = async (role: string, ...command: string[]): Promise<string> => {
      const file = `/keys/${role}/redis.password`;
      const password = await compose('exec', '-T', role, 'cat', file);
      const login = ['--user', role, '--pass', password.trim(), '--no-auth-warning'];
      const asked = await compose('exec', '-T', 'redis', 'redis-cli', ...login, ...command);
      return asked.trim();
    };
    const refused = /NOPERM|can.t access at least one of the keys/;
    expect(await as('builder', 'exists', 'kiln:builder:x')).toBe('0');
    expect(await as('signer', 'exists', 'kiln:signer:x')).toBe('0');
    for (const [role, ...command] of [
      ['builder', 'hset', 'kiln:signer:x', 'data', '{}'],
      ['builder', 'lrange', 'kiln:signer:wait', '0', '1'],
      ['builder', 'set', 'kiln:cancel:x', '1'],
      ['builder', 'xrange', 'kiln:log:x', '-', '+'],
      ['signer', 'hset', 'kiln:builder:x', 'data', '{}'],
      ['signer', 'get', 'kiln:cancel:x'],
      ['signer', 'publish', 'kiln:cancelled', 'x'],
      ['signer', 'xadd', 'kiln:log:x', '*', 'text', 'x'],
      ['api', 'set', 'elsewhere', '1'],
      ...['api', 'builder', 'signer'].flatMap((each) => [
        [each, 'keys', '*'],
        [each, 'flushall'],
        [each, 'config', 'get', '*'],
        [each, 'acl', 'list'],
        [each, 'eval', "return redis.call('set', 'elsewhere', '1')", '0'],
      ]),
    ] as [string, ...string[]][])
      expect([role, ...command, await as(role, ...command)]).toEqual([
        role,
        ...command,
        expect.stringMatching(refused),
      ]);
    const nobody = await compose('exec', '-T', 'redis', 'redis-cli', 'exists', 'kiln:builder:x');
    expect(nobody).toMatch(/NOAUTH/);
  });

  it('keeps the key where nothing listens and nothing reaches out', async () => {
    const listens = await compose(
      'exec',
      '-T',
      'signer',
      'sh',
      '-c',
      'cat /proc/net/tcp /proc/net/tcp6 2>/dev/null',
    );
    // State 0A is LISTEN; Docker's own name server is on 127.0.0.11.
    const listeners = listens
      .split('\n')
      .filter((line) => / 0A /.test(line) && !/ 0B00007F:/.test(line));
    expect(listeners).toEqual([]);
    const signer = (await compose('ps', '-q', 'signer')).trim();
    const networks = await inspect(signer, '{{json .NetworkSettings.Networks}}');
    expect(Object.keys(JSON.parse(networks) as object)).toEqual([`${project}_queue`]);
    expect(await inspect(`${project}_queue`, '{{.Internal}}')).toBe('true');
  });
});
