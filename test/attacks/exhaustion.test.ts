import { connect, type Socket } from 'node:net';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import type { IssuedToken } from '../../services/core/protocol/token.ts';
import { startKiln, type KilnService } from '../machine/kiln-service.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { until } from '../machine/until.ts';

/** Who would stop Kiln or fill it: without a token first, with bodies, headers and connections; then with one. Each gets its answer, and others theirs. */

let kiln: KilnService;
let admin: string;
beforeAll(async () => {
  kiln = await startKiln(await freshDirectory('exhaustion'), {
    KILN_ADDRESS_CONNECTIONS: '20',
    KILN_REQUEST_SECONDS: '1',
    KILN_LOG_LEVEL: 'info',
  });
  admin = await kiln.adminToken();
});
afterAll(() => kiln.stop());

/** A connection of bare bytes, what came on it so far, and its end. */
const dial = async (): Promise<{ socket: Socket; heard(): string; ended: Promise<unknown> }> => {
  const { hostname, port } = new URL(kiln.url);
  const socket = connect(Number(port), hostname);
  let text = '';
  socket.on('data', (piece) => (text += piece.toString('latin1')));
  socket.on('error', () => {});
  const ended = new Promise((resolve) => socket.once('close', resolve));
  await once(socket, 'connect');
  return { socket, heard: () => text, ended };
};

const GiB = 1024 ** 3;
const BLOB = `/v1/blobs/sha256:${'a'.repeat(64)}`;
const head = (method: string, path: string, token: string | null, type: string, size: number) =>
  `${method} ${path} HTTP/1.1\r\nHost: kiln\r\nContent-Type: ${type}\r\nContent-Length: ${size}\r\n${
    token === null ? '' : `Authorization: Bearer ${token}\r\n`
  }\r\n`;

describe('somebody without a token', () => {
  it.each([
    ['PUT', BLOB, 'application/octet-stream'],
    ['POST', '/v1/builds', 'multipart/form-data; boundary=x'],
    ['POST', '/v1/builds', 'application/json'],
    ['POST', '/v1/sources', 'application/json'],
    ['POST', '/v1/kernels', 'application/json'],
    ['POST', '/v1/resolve', 'application/json'],
    ['POST', '/v1/tokens', 'application/json'],
    ['POST', '/v1/builds/none/cancel', 'application/json'],
    ['POST', '/v1/tokens/none/revoke', 'application/json'],
    ['POST', '/v1/withdrawals', 'application/json'],
    ['POST', '/v1/names/none', 'application/json'],
    ['DELETE', '/v1/withdrawals/source/none', 'application/json'],
  ])('has no body read of %s %s (%s): 401, and the connection ends', async (method, path, type) => {
    const { socket, heard, ended } = await dial();
    socket.write(head(method, path, null, type, 200_000));
    await until('an answer before the body', () => heard().includes('\r\n\r\n'));
    expect(heard()).toMatch(/^HTTP\/1.1 401 [^]*Connection: close[^]*"code":"unauthenticated"/);
    await ended;
  });

  it('sends what he likes into a connection that nobody reads', async () => {
    const { socket, heard, ended } = await dial();
    socket.write(head('PUT', BLOB, null, 'application/octet-stream', 10 * GiB));
    const piece = Buffer.alloc(1024 * 1024);
    const more = (): void => {
      while (!socket.destroyed && socket.write(piece));
      if (!socket.destroyed) socket.once('drain', more);
    };
    more();
    await ended;
    expect(heard()).toMatch(/^HTTP\/1.1 401 /);
    // What the two kernels keep of it on the way, and no more.
    expect(socket.bytesWritten - socket.writableLength).toBeLessThan(64 * 1024 * 1024);
  });

  it('is told so before he sends, if he asks whether to go on', async () => {
    const { socket, heard, ended } = await dial();
    const asking = head('PUT', BLOB, null, 'application/octet-stream', GiB);
    socket.write(asking.replace('\r\n', '\r\nExpect: 100-continue\r\n'));
    await ended;
    expect(heard()).toMatch(/^HTTP\/1.1 401 /);
  });

  it('cannot keep a connection with headers that never end', async () => {
    const { socket, heard, ended } = await dial();
    socket.write('GET /v1/builds HTTP/1.1\r\nHost: kiln\r\n');
    const dripping = setInterval(() => socket.write('X-Drip: 1\r\n'), 100);
    await ended;
    clearInterval(dripping);
    expect(heard()).toMatch(/^HTTP\/1.1 408 /);
  });
});

describe('a sender', () => {
  it.each([
    ['PUT', BLOB, 'application/octet-stream'],
    ['POST', '/v1/builds', 'application/json'],
    ['POST', '/v1/builds', 'multipart/form-data; boundary=x'],
  ])(
    'that drips the body of %s %s (%s) is told that it is too slow',
    async (method, path, type) => {
      const { socket, heard, ended } = await dial();
      socket.write(head(method, path, admin, type, GiB / 1024 / 8));
      const dripping = setInterval(() => socket.write('x'), 100);
      await ended;
      clearInterval(dripping);
      expect(heard()).toMatch(/^HTTP\/1.1 408 [^]*"code":"too-slow"/);
    },
  );

  it('that hangs up is no defect of the service', async () => {
    for (const [method, path, type] of [
      ['PUT', BLOB, 'application/octet-stream'],
      ['POST', '/v1/sources', 'application/json'],
      ['POST', '/v1/builds', 'multipart/form-data; boundary=x'],
      ['GET', '/v1/sources', 'application/json'],
    ] as const) {
      const { socket, ended } = await dial();
      socket.write(head(method, path, admin, type, 100_000));
      socket.write('{"blob":');
      socket.destroy();
      await ended;
    }
    expect((await kiln.kiln('list')).status).toBe(0);
    expect(kiln.output()).not.toMatch(/defect/);
  });

  it.each([
    ['an encoding that is none', { 'Content-Encoding': 'rot13' }],
    ['a character set that is none', { 'Content-Type': 'application/json; charset=rot13' }],
  ])('that names %s made the mistake itself', async (_label, headers) => {
    const answer = await fetch(`${kiln.url}/v1/sources`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...headers, Authorization: `Bearer ${admin}` },
      body: '{}',
    });
    expect(answer.status).toBe(400);
    expect(kiln.output()).not.toMatch(/defect/);
  });
});

describe('connections', () => {
  it('over the limit of an address are told when to come again, and served when others have ended', async () => {
    const open = await Promise.all(Array.from({ length: 20 }, dial));
    const { heard, ended } = await dial();
    await ended;
    expect(heard()).toMatch(/^HTTP\/1.1 429 [^]*Retry-After: 2\r\n[^]*20 connections from your/);
    // The client waits in its patience.
    const waiting = kiln.kiln('list');
    for (const { socket } of open) socket.destroy();
    expect((await waiting).status).toBe(0);
  });
});

describe('a token', () => {
  const issue = async (name: string, ...quotas: string[]): Promise<string> =>
    (await kiln.json<IssuedToken>('token', 'create', name, ...quotas)).secret;
  const put = (token: string, bytes: string, blob = digestOf(bytes)): Promise<Response> =>
    fetch(`${kiln.url}/v1/blobs/${blob}`, {
      method: 'PUT',
      headers: { Authorization: `Bearer ${token}` },
      body: bytes,
    });
  const refused = async (answer: Response): Promise<[number, unknown, unknown]> => {
    const { code, detail } = (await answer.json()) as { code: string; detail: string };
    return [answer.status, code, `${detail}; ${answer.headers.get('retry-after')} s`];
  };

  it('has as many uploads at once as it may, and the next when one has ended', async () => {
    const token = await issue('two-hands', '--uploads', '2');
    const open = [await dial(), await dial()];
    for (const { socket } of open)
      socket.write(head('PUT', BLOB, token, 'application/octet-stream', GiB));
    const going = setInterval(() => {
      for (const { socket } of open) socket.write('x'.repeat(2000));
    }, 100);
    await until('both to be taken in', async () => (await put(token, 'third')).status === 429);
    const answer = await refused(await put(token, 'third'));
    expect(answer).toEqual([
      429,
      'too-many',
      expect.stringMatching(
        /^this token has 2 uploads under way, .*try again when one has ended; 5 s/,
      ),
    ]);
    clearInterval(going);
    for (const { socket } of open) socket.destroy();
    await until('room again', async () => (await put(token, 'third')).status === 201);
    expect((await put(await issue('other'), 'fourth')).status).toBe(201);
  });

  it('sends as many bytes a day as it may, refused ones included', async () => {
    const token = await issue('small', '--daily-bytes', '200000');
    const text = 'x'.repeat(90_000);
    expect((await put(token, text, digestOf('other'))).status).toBe(422);
    expect((await put(token, text)).status).toBe(201);
    expect(await refused(await put(token, text))).toEqual([
      429,
      'too-many',
      expect.stringMatching(
        /has sent 180000 bytes today and may send 200000 a day; try again after 00:00 UTC; \d+ s$/,
      ),
    ]);
    expect((await put(token, 'little')).status).toBe(201);
    const file = join(await freshDirectory('big'), 'big.tar');
    await writeFile(file, 'y'.repeat(90_000));
    const tokenFile = join(await freshDirectory('token'), 'token');
    await writeFile(tokenFile, token);
    const pushed = await kiln.kiln('source', 'push', file, '--token-file', tokenFile);
    expect(pushed).toMatchObject({
      status: 5,
      stderr: expect.stringMatching(/try again after 00:00 UTC/),
    });
  });
});
