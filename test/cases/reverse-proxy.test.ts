import { createServer, type IncomingMessage } from 'node:http';
import { createServer as createTcpServer, type AddressInfo } from 'node:net';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from '@jest/globals';
import type { BuildView } from '../../services/core/protocol/build.ts';
import type { IssuedToken } from '../../services/core/protocol/token.ts';
import type { SourceView } from '../../services/core/protocol/source.ts';
import { startRelay } from '../machine/faulty-network.ts';
import { freshDirectory, kbuildSource, moduleCode } from '../machine/make-source.ts';
import { startNginx } from '../machine/nginx.ts';
import { CLIENT } from '../machine/places.ts';
import { run, type Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { makeSmallRoot } from '../machine/small-root.ts';

/** Kiln behind Debian's nginx, and behind worse. */

const kiln = sharedKiln();
const closers: (() => Promise<void>)[] = [];
afterAll(async () => {
  for (const close of closers) await close();
});

const kept = async <T extends { close(): Promise<void> }>(starting: Promise<T>): Promise<T> => {
  const thing = await starting;
  closers.push(() => thing.close());
  return thing;
};

/** A client with a configuration of its own, which begins empty. */
const newClient = async (): Promise<(...args: string[]) => Promise<Ran>> => {
  const config = join(await freshDirectory('config'), 'config');
  return (...args) =>
    run(CLIENT, args, { env: { PATH: process.env['PATH'], KILN_CONFIG: config } });
};

/** A server that says one thing to everybody, and what it was asked. */
const startTold = async (
  status: number,
  headers: Readonly<Record<string, string>>,
): Promise<{ url: string; asked: readonly IncomingMessage[]; close(): Promise<void> }> => {
  const asked: IncomingMessage[] = [];
  const server = createServer((incoming, answer) => {
    asked.push(incoming);
    answer.writeHead(status, headers).end('<html>');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
};

const admin = join(kiln.data, 'admin.token');

describe('a service below a path of a reverse proxy', () => {
  /** nginx before Kiln; what comes to Kiln goes through a relay that keeps it, and what is not below the path is a stranger's. */
  const behind = async (path: string) => {
    const relay = await kept(startRelay(kiln.url));
    const stranger = await kept(startTold(200, {}));
    const nginx = await kept(
      startNginx(
        'client_max_body_size 0;',
        `location "${path}" { proxy_pass ${relay.url}/; }`,
        `location / { proxy_pass ${stranger.url}; }`,
      ),
    );
    // nginx itself was asked once whether it is there.
    return { relay, nginx, atRoot: () => stranger.asked.slice(1) };
  };

  it.each(['/kiln/', '/fleet/kiln%20one/'])(
    'sets up, sends, builds, follows and installs below %s, and tells the host’s root nothing',
    async (path) => {
      const { relay, nginx, atRoot } = await behind(decodeURIComponent(path));
      const client = await newClient();
      const { secret } = await kiln.json<IssuedToken>('token', 'create', 'below', '--role', 'ci');
      const token = join(await freshDirectory('token'), 'token');
      await writeFile(token, secret);
      // With or without the last slash.
      const address = `${nginx.url}${path.replace(/\/$/, path === '/kiln/' ? '' : '/')}`;
      expect(
        await client('setup', address, '--trust-first-use', '--token-file', token),
      ).toMatchObject({ status: 0 });
      const name = `below_${path.length}`;
      const source = await kbuildSource(name, moduleCode(`/* ${'uploaded '.repeat(40_000)} */`));
      const pushed = await client(
        'source',
        'push',
        source,
        '--name',
        name,
        '--version',
        '1',
        '--json',
      );
      expect(pushed).toMatchObject({ status: 0 });
      expect(JSON.parse(pushed.stdout) as SourceView).toMatchObject({ name });
      const built = await client('build', name, '-k', kiln.kernel, '--log', '--json');
      expect(built).toMatchObject({
        status: 0,
        stderr: expect.stringMatching(/kiln: make: make -j/),
      });
      expect(JSON.parse(built.stdout) as BuildView).toMatchObject({ state: 'succeeded' });
      const root = await makeSmallRoot(kiln.release);
      expect(await client('install', name, '--root', root, '-q')).toMatchObject({ status: 0 });
      expect(await client('verify', '--root', root)).toMatchObject({ status: 0 });
      // A problem document comes through, too.
      expect(await client('logs', 'nosuchbuild')).toMatchObject({
        status: 3,
        stderr: expect.not.stringMatching(/is it Kiln/),
      });
      expect(relay.asked()).toMatch(/GET \/v1\/builds\/\w+\/events /);
      expect(relay.asked()).toMatch(/PUT \/v1\/blobs\//);
      expect(atRoot()).toEqual([]);
    },
  );

  it('says that the path may be wrong where there is nothing', async () => {
    const nginx = await kept(startNginx(`location /kiln/ { proxy_pass ${kiln.url}/; }`));
    const client = await newClient();
    expect(
      await client('setup', `${nginx.url}/klin/`, '--trust-first-use', '--token-file', admin),
    ).toMatchObject({
      status: 3,
      stderr: expect.stringMatching(
        /\/klin\/ has no v1\/signers.*is the address’s path right\?\n$/,
      ),
    });
  });

  it('is no address with a user, a query or a fragment, and says none of them', async () => {
    const client = await newClient();
    for (const address of ['http://me:pass@127.0.0.1:1/', 'http://h/?pass', 'http://h/#pass'])
      expect(await client('setup', address, '--token-file', admin)).toMatchObject({
        status: 2,
        stderr: expect.not.stringMatching(/\bpass\b/),
      });
  });
});

describe('a redirection', () => {
  it.each([301, 302, 307, 308])(
    'of status %d is told and not followed: no token leaves for another origin',
    async (status) => {
      const other = await kept(startTold(200, {}));
      const first = await kept(startTold(status, { Location: `${other.url}/kiln/v1/signers` }));
      const client = await newClient();
      expect(await client('setup', `${first.url}/kiln`, '--token-file', admin)).toMatchObject({
        status: 5,
        stderr: expect.stringContaining(`(kiln setup ${other.url}/kiln/)`),
      });
      expect(first.asked).toHaveLength(1);
      expect(other.asked).toHaveLength(0);
    },
  );
});

describe('a proxy with a limit on bodies', () => {
  const push = async (url: string, ...extra: string[]): Promise<Ran> => {
    const client = await newClient();
    const source = await kbuildSource('large', moduleCode());
    // Not to be compressed below nginx's megabyte.
    const noise = Buffer.from(Array.from({ length: 3e6 }, () => Math.floor(Math.random() * 256)));
    await writeFile(join(source, 'noise.bin'), noise);
    const given = ['--name', 'large', '--version', '1', '--server', url, '--token-file', admin];
    return client('source', 'push', source, ...given, ...extra);
  };

  it('is nginx’s own of 1 MB: said once, with what to raise, and nothing is sent again', async () => {
    const nginx = await kept(startNginx(`location / { proxy_pass ${kiln.url}; }`));
    const relay = await kept(startRelay(nginx.url));
    const { status, stderr } = await push(relay.url, '-q');
    expect({ status, stderr }).toEqual({
      status: 2,
      stderr: expect.stringMatching(
        /^kiln: a proxy before the service refuses PUT \/v1\/blobs\/\S+ for its 3\d{6} bytes; .*client_max_body_size/,
      ),
    });
    expect(relay.asked().match(/^PUT /gm)).toHaveLength(1);
    // The answer came before the bytes.
    expect(relay.asked().length).toBeLessThan(10_000);
  });

  it('only resets: tried three times and no more, and said with what to raise', async () => {
    let uploads = 0;
    const server = createTcpServer((socket) => {
      let size = 0;
      socket.on('error', () => {});
      socket.on('data', (piece: Buffer) => {
        if (size === 0 && piece.toString('latin1').startsWith('PUT ')) uploads += 1;
        if (size === 0 && piece.toString('latin1').startsWith('HEAD '))
          socket.end('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
        size += piece.length;
        if (size > 200_000) socket.resetAndDestroy();
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const { status, stderr } = await push(`http://127.0.0.1:${port}`);
    server.close();
    expect({ status, stderr }).toEqual({
      status: 5,
      stderr: expect.stringMatching(
        /the connection broke 3 times while 3\d{6} bytes.*client_max_body_size/,
      ),
    });
    expect(uploads).toBe(3);
  });
});
