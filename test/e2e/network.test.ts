import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { BuildView } from '../../services/core/protocol/build.ts';
import {
  freePort,
  startGateway,
  startHttpProxy,
  startMute,
  startRelay,
  startTls,
} from '../machine/faulty-network.ts';
import { freshDirectory, kbuildSource, moduleCode } from '../machine/make-source.ts';
import { CLIENT } from '../machine/places.ts';
import { run, type Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';

/** The shipped client where the network is bad, or has something in its way. */

const kiln = sharedKiln();
const closers: (() => Promise<void>)[] = [];
afterAll(async () => {
  for (const close of closers) await close();
});

/** Has a thing closed when the tests are over. */
const kept = async <T extends { close(): Promise<void> }>(starting: Promise<T>): Promise<T> => {
  const thing = await starting;
  closers.push(() => thing.close());
  return thing;
};

interface Setting {
  readonly env?: Readonly<Record<string, string>>;
  /** Lines of its configuration file. */
  readonly config?: readonly string[];
  readonly onStderr?: (text: string) => void;
}

/** Runs the client with a configuration of its own, and without the test's own proxies. */
const client = async (
  server: string,
  args: readonly string[],
  setting: Setting = {},
): Promise<Ran> => {
  const config = join(await freshDirectory('config'), 'config');
  const token = join(kiln.data, 'admin.token');
  const lines = [`server = ${server}`, `token-file = ${token}`, ...(setting.config ?? [])];
  await writeFile(config, lines.join('\n'));
  const { PATH = '' } = process.env;
  const { onStderr = () => {} } = setting;
  return run(CLIENT, args, { env: { PATH, KILN_CONFIG: config, ...setting.env }, onStderr });
};

/** Seconds that a client keeps trying where it is not told how long. */
const UNASKED_PATIENCE = 60;
/** What a client says before it tries once more. */
const AGAIN = /again in/;

const took = async (act: () => Promise<unknown>): Promise<number> => {
  const started = performance.now();
  await act();
  return (performance.now() - started) / 1000;
};

describe('a broken network', () => {
  const argsInto = (directory: string): readonly string[] =>
    `build v4l2loopback -k ${kiln.release} -o ${directory}`.split(' ');
  let module: Buffer;
  let undisturbed: number;

  beforeAll(async () => {
    const directory = await freshDirectory('modules');
    await kiln.json<BuildView>(...argsInto(directory));
    module = await readFile(join(directory, 'v4l2loopback.ko'));
    const relay = await kept(startRelay(kiln.url));
    expect((await client(relay.url, argsInto(directory))).status).toBe(0);
    undisturbed = relay.carried();
  });

  it('cuts a download, which goes on where it was cut: no byte comes twice', async () => {
    const relay = await kept(startRelay(kiln.url));
    relay.cutAfter(undisturbed - Math.floor(module.length / 2));
    const directory = await freshDirectory('modules');
    const { status, stderr } = await client(relay.url, argsInto(directory));
    expect({ status, stderr }).toEqual({
      status: 0,
      stderr: expect.stringMatching(/connection broken; again in/),
    });
    expect((await readFile(join(directory, 'v4l2loopback.ko'))).equals(module)).toBe(true);
    const begins = [...relay.asked().matchAll(/^range: bytes=(\d+)-\r$/gim)].map((match) =>
      Number(match[1]),
    );
    expect(begins).toEqual([Math.ceil(module.length / 2)]);
    // Nothing twice but an answer's headers.
    expect(relay.carried() - undisturbed).toBeGreaterThan(0);
    expect(relay.carried() - undisturbed).toBeLessThan(1000);
  });

  it('refuses for a while, and is waited for', async () => {
    const port = await freePort();
    const refused = Promise.withResolvers<void>();
    const asked = client(`http://127.0.0.1:${port}`, ['kernel', 'list'], {
      onStderr: () => refused.resolve(),
    });
    await Promise.race([refused.promise, asked]);
    await kept(startRelay(kiln.url, port));
    expect(await asked).toMatchObject({
      status: 0,
      stderr: expect.stringMatching(/^connection refused; again in \d+\.\d s\n/),
    });
  });

  it('has a gateway that asks to come again later, and does not have to ask twice', async () => {
    const gateway = await kept(
      startGateway(kiln.url, { count: 1, status: 503, headers: { 'Retry-After': '2' } }),
    );
    const seconds = await took(async () => {
      expect((await client(gateway.url, ['kernel', 'list'])).status).toBe(0);
    });
    expect(seconds).toBeGreaterThan(2);
    const busy = await kept(
      startGateway(kiln.url, { count: 99, status: 429, headers: { 'Retry-After': '3600' } }),
    );
    expect(await client(busy.url, ['kernel', 'list', '--patience', '5'])).toMatchObject({
      status: 5,
      stderr: expect.stringMatching(/status 429/),
    });
  });

  it('breaks uploads, which are sent again from their beginning', async () => {
    const gateway = await kept(startGateway(kiln.url, { count: 2, status: 502, method: 'PUT' }));
    const source = await kbuildSource('resent', moduleCode(`/* ${'random '.repeat(50_000)} */`));
    const args = ['source', 'push', source, '--name', 'resent', '--version', '1', '--json'];
    const { status, stdout, stderr } = await client(gateway.url, args);
    // Two pauses of the same length are told of once.
    expect({ status, stderr, left: gateway.refusalsLeft() }).toEqual({
      status: 0,
      stderr: expect.stringMatching(/^status 502; again in /m),
      left: 0,
    });
    expect(JSON.parse(stdout)).toMatchObject({ name: 'resent', version: '1' });
  });

  it('is not waited for after ^C', async () => {
    const mute = await kept(startMute());
    const env = { ...process.env, KILN_SERVER: `http://127.0.0.1:${mute.port}` };
    const waiting = spawn(CLIENT, ['list'], { env, stdio: 'ignore' });
    const ended = once(waiting, 'exit');
    await Promise.race([mute.reached, ended]);
    waiting.kill('SIGINT');
    // One that went on waiting would end with 5.
    expect(await ended).toEqual([130, null]);
  });

  it('falls silent, in the handshake or amidst an answer, and is given up after the time for each', async () => {
    const mute = await kept(startMute());
    const relay = await kept(startRelay(kiln.url));
    relay.stallAfter(undisturbed - 100);
    const [handshake, whole] = await Promise.all([
      took(async () => {
        const url = `https://127.0.0.1:${mute.port}`;
        expect(await client(url, ['list', '--patience', '0'])).toMatchObject({
          status: 5,
          stderr: expect.stringMatching(/does not answer: timed out/),
        });
      }),
      took(async () => {
        const directory = await freshDirectory('modules');
        const { status, stderr } = await client(relay.url, argsInto(directory));
        expect({ status, stderr }).toMatchObject({ status: 0 });
        expect(stderr).toMatch(/timed out; again in/);
        expect((await readFile(join(directory, 'v4l2loopback.ko'))).equals(module)).toBe(true);
      }),
    ]);
    expect(handshake).toBeGreaterThan(9);
    expect(whole).toBeGreaterThan(59);
    expect(handshake).toBeLessThan(whole);
    expect(relay.carried() - undisturbed).toBeLessThan(1000);
  });

  it('is named to a person and to a script, after as much patience as was asked for', async () => {
    const url = `http://127.0.0.1:${await freePort()}`;
    const args = ['kernel', 'list', '--json'];
    const { status, stdout, stderr } = await client(url, [...args, '--patience', '0']);
    const message = `${url} does not answer: connection refused; is it running on that port, and is this host’s network up?`;
    // Of a second try, a line would have told.
    expect({ status, stderr }).toEqual({ status: 5, stderr: `kiln: ${message}\n` });
    expect(JSON.parse(stdout)).toEqual({ error: { code: 'unreachable', message, exit: 5 } });
    const patient = await took(async () => {
      expect((await client(url, args, { config: ['patience = 3'] })).status).toBe(5);
    });
    expect(patient).toBeGreaterThan(3);
    expect(patient).toBeLessThan(UNASKED_PATIENCE);
    expect(await client('http://no-such-host.invalid', [...args, '--patience', '0'])).toMatchObject(
      { status: 5, stderr: expect.stringMatching(/does not answer: no such host/) },
    );
    expect(await client(url, [...args, '--patience', 'long'])).toMatchObject({ status: 2 });
    const env = { http_proxy: url };
    expect(await client('http://kiln.test', [...args, '--patience', '0'], { env })).toMatchObject({
      stderr: expect.stringMatching(/the proxy 127\.0\.0\.1:\d+ does not answer: conn/),
    });
  });

  it('is not waited for after a refusal of the service’s', async () => {
    const { status, stdout, stderr } = await client(kiln.url, ['show', 'nothing', '--json']);
    expect({ status, stderr }).toEqual({ status: 3, stderr: expect.not.stringMatching(AGAIN) });
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'not-found', exit: 3 } });
  });
});

describe('an artifact', () => {
  it('is served in parts to who has the same bytes, and whole to who has others', async () => {
    const { modules } = await kiln.json<BuildView>('build', 'v4l2loopback', '-k', kiln.release);
    const digest = modules[0]?.unsigned ?? '';
    const Authorization = `Bearer ${await kiln.adminToken()}`;
    const get = (headers: Readonly<Record<string, string>>): Promise<Response> =>
      fetch(`${kiln.url}/v1/artifacts/${digest}`, { headers: { Authorization, ...headers } });
    const whole = await get({});
    expect([whole.status, whole.headers.get('accept-ranges'), whole.headers.get('etag')]).toEqual([
      200,
      'bytes',
      `"${digest}"`,
    ]);
    const bytes = Buffer.from(await whole.arrayBuffer());
    for (const [range, from, to] of [
      ['bytes=100-', 100, bytes.length],
      ['bytes=0-0', 0, 1],
      ['bytes=-5', bytes.length - 5, bytes.length],
    ] as const) {
      const part = await get({ Range: range, 'If-Range': `"${digest}"` });
      expect([part.status, part.headers.get('content-range')]).toEqual([
        206,
        `bytes ${from}-${to - 1}/${bytes.length}`,
      ]);
      expect(Buffer.from(await part.arrayBuffer()).equals(bytes.subarray(from, to))).toBe(true);
    }
    expect((await get({ Range: 'bytes=100-', 'If-Range': '"sha256:0"' })).status).toBe(200);
    expect((await get({ Range: 'bytes=0-1,3-4' })).status).toBe(200);
    const outside = await get({ Range: `bytes=${bytes.length}-` });
    expect([outside.status, outside.headers.get('content-range')]).toEqual([
      416,
      `bytes */${bytes.length}`,
    ]);
  });
});

describe('https with a CA of one’s own', () => {
  it('is not trusted until the CA is given: with an option, in the environment or in the configuration', async () => {
    const { port, ca } = await kept(startTls(kiln.url));
    const url = `https://127.0.0.1:${port}`;
    const { status, stderr } = await client(url, ['kernel', 'list']);
    expect([status, stderr]).toEqual([5, expect.not.stringMatching(AGAIN)]);
    expect(stderr).toMatch(/certificate not trusted; give its CA with ca = FILE in/);
    expect((await client(url, ['kernel', 'list', '--ca', ca])).status).toBe(0);
    expect((await client(url, ['kernel', 'list'], { env: { KILN_CA: ca } })).status).toBe(0);
    expect((await client(url, ['kernel', 'list'], { config: [`ca = ${ca}`] })).status).toBe(0);
  });

  it('is set up with its CA, which is then in the configuration beside what was there', async () => {
    const { port, ca } = await kept(startTls(kiln.url));
    const config = join(await freshDirectory('config'), 'config');
    const { PATH = '' } = process.env;
    const env = { PATH, KILN_CONFIG: config, no_proxy: '127.0.0.1' };
    await writeFile(
      config,
      'patience = 9\nproxy = http://user:secret@127.0.0.1:1 # not for this\n',
    );
    const token = join(kiln.data, 'admin.token');
    const args = [
      'setup',
      `https://127.0.0.1:${port}`,
      '--token-file',
      token,
      '--ca',
      ca,
      '--trust-first-use',
    ];
    expect(await run(CLIENT, args, { env })).toMatchObject({ status: 0 });
    expect(await readFile(config, 'utf8')).toMatch(`\nca = ${ca}\n`);
    expect(await readFile(config, 'utf8')).toMatch('patience = 9\n');
    expect((await stat(config)).mode & 0o777).toBe(0o600);
    expect(await run(CLIENT, ['kernel', 'list'], { env })).toMatchObject({ status: 0 });
  });

  it('is refused under another name, and a CA file that holds none is said to', async () => {
    const { port, ca } = await kept(startTls(kiln.url));
    expect(await client(`https://localhost:${port}`, ['list', '--ca', ca])).toMatchObject({
      status: 5,
      stderr: expect.stringMatching(/certificate for another name/),
    });
    expect(
      await client(`https://127.0.0.1:${port}`, ['list', '--ca', '/etc/hostname']),
    ).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/holds no certificate/),
    });
  });
});

describe('a proxy', () => {
  const through = (port: number, credentials = 'user:s%40cret='): string =>
    `http://${credentials}@127.0.0.1:${port}`;

  it('is gone through with CONNECT for https, and with whole addresses for http', async () => {
    const proxy = await kept(startHttpProxy('user:s@cret='));
    const { port, ca } = await kept(startTls(kiln.url));
    const secure = `https://kiln.test:${port}`;
    const config = [`proxy = ${through(proxy.port)}`, `ca = ${ca}`];
    expect(await client(secure, ['toolchain', 'list'], { config })).toMatchObject({ status: 0 });
    const env = { https_proxy: through(proxy.port), KILN_CA: ca };
    expect((await client(secure, ['toolchain', 'list'], { env })).status).toBe(0);
    const plain = `http://kiln.test:${new URL(kiln.url).port}`;
    expect((await client(plain, ['toolchain', 'list'], { config })).status).toBe(0);
    expect(proxy.served).toEqual([
      `CONNECT kiln.test:${port}`,
      `CONNECT kiln.test:${port}`,
      `GET ${plain}/v1/toolchains`,
    ]);
  });

  it('carries a build’s upload, report and modules', async () => {
    const proxy = await kept(startHttpProxy('user:s@cret='));
    const plain = `http://kiln.test:${new URL(kiln.url).port}`;
    const env = { http_proxy: through(proxy.port) };
    const directory = await freshDirectory('modules');
    const source = await kbuildSource('proxied');
    const args = ['build', source, '--name', 'proxied', '--version', '1', '-k', kiln.release];
    expect(await client(plain, [...args, '-o', directory], { env })).toMatchObject({ status: 0 });
    expect((await readFile(join(directory, 'proxied.ko'))).length).toBeGreaterThan(1000);
    expect(proxy.served).toEqual(
      expect.arrayContaining([expect.stringMatching(/^PUT /), expect.stringMatching(/\/events$/)]),
    );
  });

  it('that refuses is named, its password is not', async () => {
    const proxy = await kept(startHttpProxy('user:s@cret='));
    for (const url of ['https://kiln.test', 'http://kiln.test']) {
      const config = [`proxy = ${through(proxy.port, 'user:secret')}`];
      const { status, stdout, stderr } = await client(url, ['list', '--json'], { config });
      expect({ status, stderr }).toEqual({
        status: 5,
        stderr: expect.stringMatching(
          /the proxy 127\.0\.0\.1:\d+ refused.* \(status 407\); it wants cr/,
        ),
      });
      expect(stdout + stderr).not.toMatch(/secret|dXNlcjpzZWNyZXQ/);
    }
    expect(proxy.served).toEqual([]);
  });

  it('is passed by for what no_proxy names', async () => {
    const env = { http_proxy: `http://127.0.0.1:${await freePort()}`, no_proxy: '127.0.0.0/8' };
    expect((await client(kiln.url, ['kernel', 'list'], { env })).status).toBe(0);
  });
});
