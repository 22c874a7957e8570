import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { BuildTicket, BuildView } from '../../services/core/protocol/build.ts';
import type { SourceView } from '../../services/core/protocol/source.ts';
import { kbuildSource, writeTree } from '../machine/make-source.ts';
import { sharedKiln } from '../machine/shared.ts';
import { until } from '../machine/until.ts';

/** Who would keep the builders for himself. The shared Kiln runs two builds at once. */

const kiln = sharedKiln();

const askAs = (token: string, source: string, note: string, background = false) =>
  kiln.call(token, 'POST', '/builds', {
    source: { digest: source },
    kernel: { digest: kiln.kernel },
    settings: { '/etc/dkms/note.conf': note },
    background,
  });

/** Asks without waiting; a note makes it another build. */
const begin = async (...args: Parameters<typeof askAs>): Promise<string> =>
  ((await (await askAs(...args)).json()) as BuildTicket).build.id;

const push = async (token: string, directory: string, name: string): Promise<string> => {
  const args = ['source', 'push', directory, '--name', name, '--version', '1', '--json', '-q'];
  return (JSON.parse((await kiln.kilnAs(token, ...args)).stdout) as SourceView).digest;
};
const states = async (ids: readonly string[]): Promise<string[]> =>
  Promise.all(ids.map(async (id) => (await kiln.json<BuildView>('show', id)).state));

describe('builds that sleep', () => {
  let sleeper: string;
  let builds: string[] = [];
  beforeAll(async () => {
    sleeper = await kiln.newToken('fairness', 'client', '--builds', '8', '--followers', '1');
    const source = await writeTree('sleeping', {
      'dkms.conf': `PACKAGE_NAME=sleeping\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME[0]=sleeping\nDEST_MODULE_LOCATION[0]=/updates\nMAKE[0]="sleep 1000"\n`,
      Makefile: 'obj-m := sleeping.o\n',
    });
    const digest = await push(sleeper, source, 'sleeping');
    for (let note = 0; note < 8; note += 1) builds.push(await begin(sleeper, digest, `${note}`));
    await until('one to run', async () => (await states(builds)).includes('building'));
    const over = await askAs(sleeper, digest, 'one more');
    expect([over.status, over.headers.get('retry-after'), await over.json()]).toEqual([
      429,
      '20',
      expect.objectContaining({
        code: 'too-many',
        detail:
          'this token has 8 builds waiting or running, the most it may have at once; try again when one has ended',
      }),
    ]);
  });
  afterAll(async () => {
    for (const id of builds) await kiln.kiln('cancel', id);
  });

  it('of one token keep nobody else’s waiting', async () => {
    const other = await kiln.newToken('fairness', 'client');
    const source = await kbuildSource('lively');
    const built = await kiln.kilnAs(
      other,
      'build',
      source,
      '-k',
      kiln.kernel,
      '--name',
      'lively',
      '--version',
      '1',
    );
    expect(built).toMatchObject({ status: 0 });
    const now = await states(builds);
    expect(now.filter((state) => state === 'building')).toEqual(['building']);
    expect(now.filter((state) => state === 'queued')).toHaveLength(7);
  });

  it('are followed by one at a time where a token may follow one', async () => {
    const follow = (): Promise<Response> =>
      kiln.call(sleeper, 'GET', `/builds/${builds[0]}/events`);
    const first = await follow();
    expect([first.status, (await follow()).status]).toEqual([200, 429]);
    await first.body?.cancel();
    await until('room again', async () => {
      const next = await follow();
      await next.body?.cancel();
      return next.status === 200;
    });
  });

  it('lead to the next one when one is cancelled', async () => {
    const [first = '', ...rest] = builds;
    builds = rest;
    await kiln.kiln('cancel', first);
    await until('the next to run', async () => (await states(builds)).includes('building'));
    expect((await states(builds)).filter((state) => state === 'building')).toHaveLength(1);
  });
});

describe('a matrix in the background', () => {
  it('lets a host go first, and goes on after it', async () => {
    const ci = await kiln.newToken('fairness', 'ci');
    const source = await push(ci, await kbuildSource('matrix'), 'matrix');
    const slow = await writeTree('paused', {
      'dkms.conf': `PACKAGE_NAME=paused\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME[0]=paused\nDEST_MODULE_LOCATION[0]=/updates\nMAKE[0]="sleep 1000"\n`,
      Makefile: 'obj-m := paused.o\n',
    });
    const blocker = await push(ci, slow, 'paused');
    const blocking = [await begin(ci, blocker, '1'), await begin(ci, blocker, '2')];
    await until('both places to be taken', async () =>
      (await states(blocking)).every((state) => state === 'building'),
    );
    const matrices = [await kiln.newToken('fairness', 'ci'), await kiln.newToken('fairness', 'ci')];
    const matrix: string[] = [];
    for (const token of matrices)
      for (const note of ['1', '2'])
        matrix.push(await begin(token, source, `${token}${note}`, true));
    const host = await begin(await kiln.newToken('fairness', 'client'), source, 'host');
    for (const id of blocking) await kiln.kiln('cancel', id);
    await until('all to be built', async () =>
      (await states([...matrix, host])).every((state) => state === 'succeeded'),
    );
    const started = async (id: string): Promise<number> =>
      (await kiln.json<BuildView>('show', id)).startedAt ?? 0;
    const others = await Promise.all(matrix.map(started));
    const hosts = await started(host);
    expect(others.filter((at) => at < hosts).length).toBeLessThanOrEqual(1);
  });
});
