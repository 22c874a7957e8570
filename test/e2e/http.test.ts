import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import { moduleCode, writeTar } from '../machine/make-source.ts';
import { sharedKiln } from '../machine/shared.ts';

/** What the service answers to those who speak to it without the client: problem documents with a code, and bounds on all it reads. */

const kiln = sharedKiln();

describe('the HTTP service', () => {
  let token: string;
  beforeAll(async () => {
    token = await kiln.adminToken();
  });
  const send = (method: string, path: string, body?: string): Promise<Response> =>
    fetch(`${kiln.url}${path}`, {
      method,
      headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' },
      ...(body === undefined ? {} : { body }),
    });

  it.each([
    [
      'bytes with another digest',
      'PUT',
      `/v1/blobs/sha256:${'a'.repeat(64)}`,
      'x',
      422,
      'digest-mismatch',
    ],
    ['a path that is no digest', 'PUT', '/v1/blobs/latest', 'x', 400, 'bad-request'],
    ['a body that is no JSON', 'POST', '/v1/builds', '{', 400, 'bad-request'],
    [
      'a body with an unknown member',
      'POST',
      '/v1/sources',
      `{"blob":"sha256:${'a'.repeat(64)}","url":"x"}`,
      400,
      'bad-request',
    ],
    [
      'a body over the limit',
      'POST',
      '/v1/builds',
      `{"x":"${'x'.repeat(300_000)}"}`,
      413,
      'too-large',
    ],
    [
      'a blob that is not there',
      'POST',
      '/v1/sources',
      `{"blob":"sha256:${'a'.repeat(64)}"}`,
      404,
      'not-found',
    ],
    [
      'an artifact that is not there',
      'GET',
      `/v1/artifacts/sha256:${'a'.repeat(64)}`,
      undefined,
      404,
      'not-found',
    ],
    ['a build that is not there', 'GET', '/v1/builds/none', undefined, 404, 'not-found'],
    ['a state that is none', 'GET', '/v1/builds?state=lost', undefined, 400, 'bad-request'],
    ['a path that is none', 'GET', '/v2', undefined, 404, 'not-found'],
  ])('answers %s with a problem document', async (_label, method, path, body, status, code) => {
    const response = await send(method, path, body);
    expect(response.headers.get('content-type')).toMatch(/^application\/problem\+json/);
    expect(await response.json()).toMatchObject({
      status,
      code,
      type: `urn:kiln:error:${code}`,
      detail: expect.any(String),
      title: expect.any(String),
    });
    expect(response.status).toBe(status);
  });

  /** A wish of the largest size there is, but for its settings. */
  const wish = (settings: Readonly<Record<string, string>> = {}) => ({
    source: { name: 's'.repeat(64), version: '1'.repeat(64) },
    kernel: {
      release: 'r'.repeat(128),
      build: '#'.repeat(256),
      options: `sha256:${'a'.repeat(64)}`,
      arch: 'x'.repeat(32),
    },
    toolchain: `sha256:${'b'.repeat(64)}`,
    waive: ['compiler', 'linker', 'assembler', 'pahole', 'rustc'],
    settings,
    retry: false,
  });
  const wishes = (count: number, settings?: Readonly<Record<string, string>>): string =>
    JSON.stringify({ wishes: Array.from({ length: count }, () => wish(settings)) });

  it('answers 1000 wishes of the largest size at once', async () => {
    // Control characters need most room on the wire.
    const settings = { '/etc/dkms/a.conf': '\u0001'.repeat(1000) };
    const response = await send('POST', '/v1/resolve', wishes(1000, settings));
    const { items } = (await response.json()) as { items: unknown[] };
    expect([response.status, items.length]).toEqual([200, 1000]);
  });

  it.each([
    [
      '1001 of them',
      () => wishes(1001),
      400,
      /^wishes: one request may ask for 1000 at most; ask for the others/,
    ],
    [
      'too much settings in all',
      () => wishes(20, { '/etc/dkms/a.conf': 'a'.repeat(60_000) }),
      400,
      /^wishes: the settings are over 1048576 bytes in all; ask for fewer at once/,
    ],
    [
      'more than any wishes need',
      () => `{"wishes":["${'a'.repeat(12_000_000)}"]}`,
      413,
      /^the body is over 10387456 bytes, the limit of this request; ask for fewer things at once/,
    ],
  ])('refuses wishes clearly: %s', async (_label, body, status, words) => {
    const response = await send('POST', '/v1/resolve', body());
    const { detail } = (await response.json()) as { detail: string };
    expect([response.status, detail]).toEqual([status, expect.stringMatching(words)]);
  });

  it('reads no wishes of somebody without a token', async () => {
    const response = await fetch(`${kiln.url}/v1/resolve`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: '{ no JSON',
    });
    expect(response.status).toBe(401);
  });

  it('does not hand out what was uploaded, only what was built', async () => {
    const [source] = await kiln.json<{ digest: string }[]>('source', 'list');
    expect((await send('GET', `/v1/artifacts/${source?.digest ?? ''}`)).status).toBe(404);
    expect((await send('GET', `/v1/blobs/${kiln.toolchain}`)).status).toBe(404);
  });

  it('keeps bytes for whoever was told that they are here, whatever another makes of them', async () => {
    const tarball = async (mtime: number): Promise<Buffer> =>
      readFile(
        await writeTar('told', [
          { name: 'Kbuild', text: 'obj-m := told.o\n', mtime: new Date(mtime) },
          { name: 'told.c', text: moduleCode(), mtime: new Date(mtime) },
        ]),
      );
    const push = async (blob: string, name: string): Promise<number> => {
      const body = JSON.stringify({ blob, name, version: '1' });
      return (await send('POST', '/v1/sources', body)).status;
    };
    const put = async (bytes: Buffer): Promise<string> => {
      const blob = digestOf(bytes);
      expect((await send('PUT', `/v1/blobs/${blob}`, bytes.toString('latin1'))).status).toBe(201);
      return blob;
    };
    const first = await put(await tarball(0));
    const second = await put(await tarball(1_000_000));
    expect(second).not.toBe(first);
    expect(await push(first, 'told')).toBe(201);
    // A second sender, and two who are told that it is there already; it is not needed, and goes when the last has come back.
    const isThere = async (): Promise<number> => (await send('HEAD', `/v1/blobs/${second}`)).status;
    expect([await isThere(), await isThere()]).toEqual([200, 200]);
    expect(await push(second, 'no name')).toBe(422);
    expect(await push(second, 'told')).toBe(201);
    expect(await push(second, 'told')).toBe(201);
    expect(await isThere()).toBe(404);
  });
});
