import { beforeAll, describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import { readFile } from 'node:fs/promises';
import type { BuildTicket, BuildView } from '../../services/core/protocol/build.ts';
import { kbuildSource, moduleCode, writeTar } from '../machine/make-source.ts';
import { sharedKiln } from '../machine/shared.ts';

/** Who would read what is another's: a client's own source, and the builds that it asked for. What is not for somebody is not there for him. */

const kiln = sharedKiln();
describe('a source that a client pushed, and its build', () => {
  let [owner, other, ci] = ['', '', ''];
  let build: BuildView;
  let blob: string;
  beforeAll(async () => {
    owner = await kiln.newToken('owner', 'client');
    other = await kiln.newToken('other', 'client');
    ci = await kiln.newToken('reader', 'ci');
    const bytes = await readFile(
      await writeTar('private', [
        { name: 'Kbuild', text: 'obj-m := private.o\n' },
        { name: 'private.c', text: moduleCode('/* nobody else’s */') },
      ]),
    );
    blob = digestOf(bytes);
    await kiln.put(owner, new Uint8Array(bytes));
    const pushed = await kiln.call(owner, 'POST', '/sources', {
      blob,
      name: 'private',
      version: '1',
    });
    const { digest } = (await pushed.json()) as { digest: string };
    const args = ['build', digest, '-k', kiln.kernel, '--json', '-q'];
    build = JSON.parse((await kiln.kilnAs(owner, ...args)).stdout) as BuildView;
    expect(build.state).toBe('succeeded');
  });

  const ways = (): readonly (readonly [string, string, string, unknown?])[] => [
    ['the build', 'GET', `/builds/${build.id}`],
    ['its events', 'GET', `/builds/${build.id}/events`],
    ['its log', 'GET', `/builds/${build.id}/log`],
    ['its log as an artifact', 'GET', `/artifacts/${build.log}`],
    ['its module', 'GET', `/artifacts/${build.modules[0]?.unsigned}`],
    [
      'another build of the source',
      'POST',
      '/builds',
      {
        source: { digest: build.source.digest },
        kernel: { digest: kiln.kernel },
        background: true,
      },
    ],
  ];

  it.each([0, 1, 2, 3, 4, 5])(
    'is there for who owns it and for ci, and not for another (way %i)',
    async (index) => {
      const [, method, path, body] = ways()[index] ?? ['', '', ''];
      const answers = await Promise.all(
        [owner, ci, other].map(async (token) => {
          const answer = await kiln.call(token, method, path, body);
          await answer.body?.cancel();
          return answer.status;
        }),
      );
      expect(answers).toEqual([200, 200, 404]);
    },
  );

  it('is in no list of another’s', async () => {
    const idsOf = async (token: string): Promise<string[]> => {
      const { items } = (await (await kiln.call(token, 'GET', '/builds')).json()) as {
        items: BuildView[];
      };
      return items.map(({ id }) => id);
    };
    expect(await idsOf(owner)).toEqual([build.id]);
    expect(await idsOf(other)).toEqual([]);
    expect(await idsOf(ci)).toContain(build.id);
  });

  it('is not resolved for another, nor rebuilt, nor are its bytes an artifact for anybody', async () => {
    const wish = { source: { digest: build.source.digest }, kernel: { digest: kiln.kernel } };
    const resolve = async (token: string): Promise<unknown> =>
      (
        (await (await kiln.call(token, 'POST', '/resolve', { wishes: [wish] })).json()) as {
          items: unknown[];
        }
      ).items[0];
    expect(await resolve(owner)).toMatchObject({ state: 'succeeded' });
    expect(await resolve(other)).toEqual({
      problem: { code: 'not-found', detail: expect.stringMatching(/^there is no source/) },
    });
    expect((await kiln.call(other, 'POST', `/builds/${build.id}/rebuild`, {})).status).toBe(403);
    for (const token of [owner, other, ci])
      expect((await kiln.call(token, 'GET', `/artifacts/${blob}`)).status).toBe(404);
  });

  it('is no kernel whose files could be listed, and depends on nobody’s name', async () => {
    const asKernel = await kiln.call(other, 'POST', '/kernels', { blob });
    expect(asKernel.status).toBe(404);
    expect((await kiln.call(other, 'GET', `/kernels/${build.source.digest}/files`)).status).toBe(
      404,
    );
    const thief = await kbuildSource('thief');
    const args = [
      'source',
      'push',
      thief,
      '--name',
      'thief',
      '--version',
      '1',
      '--depends',
      'private',
      '--json',
      '-q',
    ];
    const { digest } = JSON.parse((await kiln.kilnAs(other, ...args)).stdout) as { digest: string };
    const asked = await kiln.call(other, 'POST', '/builds', {
      source: { digest },
      kernel: { digest: kiln.kernel },
    });
    expect([asked.status, await asked.json()]).toEqual([
      404,
      expect.objectContaining({
        detail: expect.stringMatching(/^there is no source private here/),
      }),
    ]);
  });
});

describe('a build of a public source', () => {
  it('is for each host that asks for it, and its settings and log for nobody else', async () => {
    const [first, second] = [
      await kiln.newToken('first', 'client'),
      await kiln.newToken('second', 'client'),
    ];
    const ask = (token: string, settings: object) =>
      kiln.call(token, 'POST', '/builds', {
        source: { name: 'v4l2loopback' },
        kernel: { digest: kiln.kernel },
        settings,
      });
    const secret = { '/etc/dkms/secret.conf': 'PASSWORD=hush\n' };
    const args = ['build', 'v4l2loopback', '-k', kiln.kernel, '--json', '-q'];
    const plain = JSON.parse((await kiln.kilnAs(first, ...args)).stdout) as BuildView;
    const module = plain.modules[0]?.signed;
    expect((await kiln.call(second, 'GET', `/artifacts/${module}`)).status).toBe(404);
    const { build } = (await (await ask(second, {})).json()) as BuildTicket;
    expect(build.id).toBe(plain.id);
    expect((await kiln.call(second, 'GET', `/artifacts/${module}`)).status).toBe(200);
    const tailored = ((await (await ask(first, secret)).json()) as BuildTicket).build.id;
    expect((await kiln.call(second, 'GET', `/builds/${tailored}`)).status).toBe(404);
    expect((await kiln.call(second, 'GET', `/builds/${tailored}/log`)).status).toBe(404);
    await kiln.kiln('cancel', tailored);
  });
});

describe('who made a record', () => {
  it('is said by the token’s name, and no path of the server with it', async () => {
    const client = await kiln.newToken('looker', 'client');
    for (const path of ['/kernels', '/sources', '/toolchains']) {
      const text = await (await kiln.call(client, 'GET', path)).text();
      expect(text).toContain('"madeBy"');
      expect(text).not.toContain(kiln.data);
    }
  });
});
