import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterEach, describe, expect, it } from '@jest/globals';
import type { BuildTicket, BuildView } from '../../services/core/protocol/build.ts';
import { kbuildSource, writeTree } from '../machine/make-source.ts';
import { sharedKiln } from '../machine/shared.ts';

/** Answers that would fill whoever reads them: a hostile service's, and those of the service about builds that say much. */

const kiln = sharedKiln();

describe('a service that reports of a build without end', () => {
  let server: Server | null = null;
  afterEach(() => {
    server?.closeAllConnections();
    server?.close();
  });

  /** The shared Kiln, but for what is told of a build. */
  const inFrontOfKiln = async (tell: (response: ServerResponse) => void): Promise<string> => {
    const pass = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
      const body = await text(request);
      const { authorization = '' } = request.headers;
      const answer = await fetch(`${kiln.url}${request.url}`, {
        method: request.method ?? 'GET',
        headers: { Authorization: authorization, 'Content-Type': 'application/json' },
        ...(body === '' ? {} : { body }),
      });
      response.writeHead(answer.status, { 'Content-Type': 'application/json' });
      response.end(await answer.text());
    };
    server = createServer((request, response) => {
      if (request.url?.endsWith('/events') === true) {
        response.writeHead(200, { 'Content-Type': 'text/event-stream' });
        tell(response);
      } else void pass(request, response);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  };
  const pour = (response: ServerResponse, what: string): void => {
    const more = (): void => {
      while (!response.destroyed && response.write(what));
      if (!response.destroyed) response.once('drain', more);
    };
    more();
  };

  it.each([
    ['in one event', 'x'.repeat(1024 * 1024), /over 33554432 characters as one event/],
    [
      'in many events',
      `event: log\ndata: ${JSON.stringify({ text: 'y'.repeat(1024 * 1024) })}\n\n`,
      /over 268435456 bytes about one build, and no end/,
    ],
  ])('is left by the client: %s', async (label, piece, words) => {
    const source = await kbuildSource(`endless${label.length}`);
    const name = `endless${label.length}`;
    await kiln.json('source', 'push', source, '--name', name, '--version', '1');
    const url = await inFrontOfKiln((response) => pour(response, piece));
    const told = await kiln.kiln('build', name, '-k', kiln.kernel, '--server', url);
    expect(told).toMatchObject({ status: 2, stderr: expect.stringMatching(words) });
  });
});

describe('a build that says much', () => {
  it('is followed up to a bound, and read whole when it has ended', async () => {
    const source = await writeTree('talker', {
      'dkms.conf': `PACKAGE_NAME=talker\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME[0]=talker\nDEST_MODULE_LOCATION[0]=/updates\nMAKE[0]="yes a-line-of-the-log | head -c 9000000; false"\n`,
      Makefile: 'obj-m := talker.o\n',
    });
    await kiln.json('source', 'push', source);
    const failed = await kiln.kiln('build', 'talker', '-k', kiln.kernel, '--log');
    expect(failed.status).toBe(1);
    const seen = failed.stdout.length + failed.stderr.length;
    expect(`${failed.stdout}${failed.stderr}`).toMatch(/there is more; kiln logs has all of it/);
    expect(seen).toBeLessThan(6_000_000);
    const [, id = ''] = /kiln logs ([0-9a-f]{24})/.exec(failed.stderr) ?? [];
    expect((await kiln.kiln('logs', id)).stdout.length).toBeGreaterThan(9_000_000);
  });
});

describe('a list', () => {
  it('of builds comes in pages, each after the last, as many as are asked for', async () => {
    const token = await kiln.adminToken();
    const ids: string[] = [];
    for (const note of ['1', '2', '3', '4', '5']) {
      const asked = await fetch(`${kiln.url}/v1/builds`, {
        method: 'POST',
        headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' },
        body: JSON.stringify({
          source: { name: 'v4l2loopback' },
          kernel: { digest: kiln.kernel },
          settings: { '/etc/dkms/pages.conf': note },
        }),
      });
      ids.unshift(((await asked.json()) as BuildTicket).build.id);
    }
    for (const id of ids) await kiln.kiln('cancel', id);
    const found: string[] = [];
    let next: string | null = '';
    while (found.length < 5 && next !== null) {
      const after: string = next === '' ? '' : `&after=${next}`;
      const answer = await fetch(`${kiln.url}/v1/builds?limit=2${after}`, {
        headers: { Authorization: `Bearer ${token}` },
      });
      const page = (await answer.json()) as { items: BuildView[]; next: string | null };
      expect(page.items.length).toBeLessThanOrEqual(2);
      found.push(...page.items.map(({ id }) => id));
      next = page.next;
    }
    expect(found.slice(0, 5)).toEqual(ids);
    const listed = await kiln.json<BuildView[]>('list', '--limit', '3');
    expect(listed.map(({ id }) => id)).toEqual(ids.slice(0, 3));
  });

  it.each([
    'sources',
    'kernels',
    'tokens',
    'toolchains',
    'archives',
    'withdrawals',
    'signers',
    'misses',
    'builds',
  ])('of %s has at most 200 items a page, however many are asked for', async (list) => {
    const headers = { Authorization: `Bearer ${await kiln.adminToken()}` };
    const get = (query: string) => fetch(`${kiln.url}/v1/${list}${query}`, { headers });
    expect(await (await get('')).json()).toMatchObject({ items: expect.any(Array) });
    const one = (await (await get('?limit=1')).json()) as { items: unknown[] };
    expect(one.items.length).toBeLessThanOrEqual(1);
    for (const query of ['?limit=201', '?limit=0', '?after=lost'])
      expect((await get(query)).status).toBe(400);
  });

  it('of more than a page is had whole by the client', async () => {
    const names: string[] = [];
    for (let index = 0; index < 205; index += 1) names.push(`page-${index}`);
    const headers = {
      Authorization: `Bearer ${await kiln.adminToken()}`,
      'Content-Type': 'application/json',
    };
    for (const name of names)
      await fetch(`${kiln.url}/v1/tokens`, {
        method: 'POST',
        headers,
        body: JSON.stringify({ name, role: 'client' }),
      });
    const listed = await kiln.json<{ name: string }[]>('token', 'list');
    expect(listed.map(({ name }) => name)).toEqual(expect.arrayContaining(names));
  });
});
