import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { BuildView } from '../../services/core/protocol/build.ts';
import type { MissView } from '../../services/core/protocol/fleet.ts';
import type { KernelView } from '../../services/core/protocol/kernel.ts';
import type { IssuedToken } from '../../services/core/protocol/token.ts';
import { debianPackage, headerPackages, releasesOf } from '../machine/debian.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { makeArchive } from '../machine/own-archive.ts';
import { CLIENT } from '../machine/places.ts';
import { run, type Ran } from '../machine/run.ts';

/** Hosts ask for modules on kernels that the service has never heard of; an archive that it follows has their headers. */

const NOBODYS = '6.1.0-4711-amd64';

describe('a kernel that only an archive has', () => {
  let kiln: KilnService;
  let host: IssuedToken;
  let newest: string;
  let older: string;

  beforeAll(async () => {
    [newest = '', older = ''] = await releasesOf('amd64');
    kiln = await startKiln(await freshDirectory('demand'), { KILN_LOG_LEVEL: 'warn' });
    await pinToolchain(kiln);
    await kiln.json('source', 'push', await debianPackage('v4l2loopback-dkms'));
    const archive = await makeArchive('archive');
    const packages = [...(await headerPackages(newest)), ...(await headerPackages(older))];
    for (const name of new Set(packages)) await archive.addFile(await debianPackage(name));
    // As old as a snapshot's.
    await archive.publish('Sat, 01 Jan 2022 00:00:00 UTC');
    const file = join(archive.directory, 'own.sources');
    await writeFile(file, `${archive.sources}Check-Valid-Until: no\n`);
    const headers = String.raw`linux-headers-(?<release>6\.1\.0-\d+-(?<flavour>amd64))`;
    await kiln.json('archive', 'add', 'mine', '--sources', file, '--headers', headers);
    host = await kiln.json('token', 'create', 'host');
    await writeFile(join(kiln.data, 'host.token'), host.secret, { mode: 0o600 });
  });
  afterAll(async () => {
    await kiln.stop();
  });

  const asHost = (...args: string[]): Promise<Ran> =>
    run(CLIENT, args, {
      env: {
        ...process.env,
        KILN_SERVER: kiln.url,
        KILN_TOKEN_FILE: join(kiln.data, 'host.token'),
        KILN_CONFIG: join(kiln.data, 'host.config'),
      },
    });
  const post = (path: string, body: unknown): Promise<Response> =>
    fetch(`${kiln.url}/v1${path}`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${host.secret}`, 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    });
  const kernels = () => kiln.json<readonly KernelView[]>('kernel', 'list');

  it('is not fetched for a source that is not here', async () => {
    const { status, stderr } = await asHost('build', 'nothing', '-k', older);
    expect([status, stderr]).toEqual([3, expect.stringMatching(/there is no source nothing here/)]);
    expect(await kernels()).toEqual([]);
  });

  it('is fetched, and the module is built for it and signed, for all who ask meanwhile', async () => {
    const asked = await Promise.all(
      Array.from({ length: 3 }, () => asHost('build', 'v4l2loopback', '-k', older, '--json')),
    );
    for (const { status, stdout, stderr } of asked) {
      expect(status).toBe(0);
      expect(stderr).toMatch(
        new RegExp(`(looking for|fetching) kernel ${older.replaceAll('.', '\\.')}`),
      );
      expect(JSON.parse(stdout) as BuildView).toMatchObject({
        state: 'succeeded',
        kernel: { release: older },
        signature: { kind: 'signed' },
      });
    }
    expect(asked.some(({ stderr }) => stderr.includes(`fetching kernel ${older} from mine`))).toBe(
      true,
    );
    expect(await kernels()).toMatchObject([{ release: older, trust: 'archive' }]);
  });

  it('is refused where no archive has it, as ever, at once when it is asked for again', async () => {
    const words = /no headers of kernel .*4711.* are here.*; no archive that is followed has it/;
    const first = await asHost('build', 'v4l2loopback', '-k', NOBODYS);
    expect([first.status, first.stderr]).toEqual([3, expect.stringMatching(words)]);
    const again = await post('/builds', {
      source: { name: 'v4l2loopback' },
      kernel: { release: NOBODYS },
    });
    expect([again.status, await again.text()]).toEqual([404, expect.stringMatching(words)]);
    const misses = await kiln.json<readonly MissView[]>('misses');
    expect(misses.find(({ release }) => release === NOBODYS)).toMatchObject({
      reason: 'not-found',
      source: 'v4l2loopback',
      count: 2,
    });
  });

  it('is fetched for who asks what a build would be made of, and says so on the wire', async () => {
    const wish = { source: { name: 'v4l2loopback' }, kernel: { release: newest } };
    const build = await post('/builds', wish);
    expect([build.status, build.headers.get('retry-after'), await build.json()]).toEqual([
      202,
      '2',
      { waiting: expect.stringMatching(/(looking for|fetching) kernel/) },
    ]);
    const resolve = async (): Promise<unknown> =>
      ((await (await post('/resolve', { wishes: [wish] })).json()) as { items: unknown[] })
        .items[0];
    const said = new Set<string>();
    for (;;) {
      const answer = await resolve();
      const problem = (answer as { problem?: { code: string; detail: string } }).problem;
      if (problem === undefined) {
        expect(answer).toMatchObject({ state: null, source: { name: 'v4l2loopback' } });
        break;
      }
      expect(problem).toMatchObject({
        code: 'unavailable',
        detail: expect.stringMatching(/(looking for|looking at|fetching).*; ask again/),
      });
      said.add(problem.detail);
      await sleep(200);
    }
    expect(said.size).toBeGreaterThan(0);
    expect(await kernels()).toHaveLength(2);
  });
});
