import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { freshDirectory, kbuildSource } from '../machine/make-source.ts';
import { mustRun, run } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { until } from '../machine/until.ts';
import type { BuildTicket } from '../../services/core/protocol/build.ts';

describe('curl with two tarballs', () => {
  const kiln = sharedKiln();
  let token: string;
  let headers: string;
  let directory: string;

  beforeAll(async () => {
    token = await kiln.adminToken();
    directory = await freshDirectory('curl');
    headers = join(directory, 'headers.tar.zst');
    await mustRun('tar', ['--zstd', '-C', kiln.headers, '-cf', headers, 'usr']);
  });

  const curl = async (...args: string[]): Promise<string> =>
    mustRun('curl', ['-sS', '-H', `Authorization: Bearer ${token}`, ...args]);

  it.each([
    ['plain', 'tar', 'cf'],
    ['gzip', 'tar.gz', 'czf'],
    ['xz', 'tar.xz', 'cJf'],
    ['zstd', 'tar.zst', '--zstd -cf'],
  ])('builds from a %s tarball, and streams the build’s life', async (name, extension, flags) => {
    const source = await kbuildSource(`curled_${name}`);
    const file = join(directory, `source.${extension}`);
    await mustRun('tar', [...flags.split(' '), file, '-C', source, '.']);
    const ticket = JSON.parse(
      await curl('-F', `source=@${file}`, '-F', `headers=@${headers}`, `${kiln.url}/v1/builds`),
    ) as BuildTicket;
    expect(ticket.build.source.name).toBe('module');
    const events = await curl('-N', `${kiln.url}/v1/builds/${ticket.build.id}/events`);
    expect(events).toMatch(/^event: log\ndata: .*curled_/m);
    const last = events.trim().split('\n').at(-1) ?? '';
    const build = JSON.parse(last.slice('data: '.length)) as BuildTicket['build'];
    expect(build).toMatchObject({
      state: 'succeeded',
      kernel: { digest: kiln.kernel },
      signature: { kind: 'signed' },
    });
    const output = join(directory, `${name}.ko`);
    await curl('-o', output, `${kiln.url}/v1/artifacts/${build.modules[0]?.signed ?? ''}`);
    expect(await mustRun('modinfo', ['-F', 'name', output])).toBe(`curled_${name}\n`);
    expect(await curl(`${kiln.url}/v1/builds/${build.id}/log`)).toMatch(/CC \[M\]/);
  });

  it('goes on with the log where a cut connection ended', async () => {
    const { build } = JSON.parse(
      await curl(
        '-F',
        `source=@${join(directory, 'source.tar')}`,
        '-F',
        `headers=@${headers}`,
        `${kiln.url}/v1/builds`,
      ),
    ) as BuildTicket;
    const all = await curl('-N', `${kiln.url}/v1/builds/${build.id}/events`);
    const ids = [...all.matchAll(/^id: (.*)$/gm)].map((match) => match[1] ?? '');
    expect(ids.length).toBeGreaterThan(1);
    const rest = await curl(
      '-N',
      '-H',
      `Last-Event-ID: ${ids[0] ?? ''}`,
      `${kiln.url}/v1/builds/${build.id}/events`,
    );
    expect([...rest.matchAll(/^id: (.*)$/gm)].map((match) => match[1])).toEqual(ids.slice(1));
  });

  it.each([
    [
      'one file missing',
      ['-F', 'source=@/etc/hostname'],
      'the form needs two files, source and headers; it has source',
    ],
    ['a file that is not asked for', ['-F', 'key=@/etc/hostname'], 'takes source and headers'],
    ['a field that is not asked for', ['-F', 'command=rm'], 'takes name, version, toolchain'],
    [
      'files that are no tarballs',
      ['-F', 'source=@/etc/hostname', '-F', 'headers=@/etc/hostname'],
      'the file is neither a tarball',
    ],
  ])('is refused with %s', async (_label, form, sentence) => {
    const problem = JSON.parse(await curl(...form, `${kiln.url}/v1/builds`)) as { detail: string };
    expect(problem.detail).toContain(sentence);
  });

  it('is refused, and the service stays, with a form that is cut in the middle of a part', async () => {
    for (const name of ['other', 'source']) {
      const body = `--b\r\nContent-Disposition: form-data; name="${name}"; filename="f"\r\n\r\nxxxx`;
      const answer = await run('curl', [
        '-sS',
        '-H',
        `Authorization: Bearer ${token}`,
        '-H',
        'Content-Type: multipart/form-data; boundary=b',
        '--data-binary',
        body,
        `${kiln.url}/v1/builds`,
      ]);
      expect(answer.stdout).toMatch(/bad-request/);
    }
    expect(await curl(`${kiln.url}/readyz`)).toMatch(/ready/);
  });

  it('leaves nothing of a form whose sender went away in the middle', async () => {
    const arriving = (): Promise<string[]> => readdir(join(kiln.data, 'blobs/arriving'));
    const away = await run('curl', [
      '-sS',
      '-H',
      `Authorization: Bearer ${token}`,
      '--limit-rate',
      '2M',
      '--max-time',
      '2',
      '-F',
      `headers=@${headers}`,
      '-F',
      `source=@${headers}`,
      `${kiln.url}/v1/builds`,
    ]);
    expect(away.status).toBe(28);
    // What other tests send meanwhile is among them, and goes as well.
    for (const name of await arriving())
      await until(`${name} has gone`, async () => !(await arriving()).includes(name));
  });

  it('is refused without a token before anything is read', async () => {
    const { stdout } = await run('curl', [
      '-sS',
      '-o',
      '/dev/null',
      '-w',
      '%{http_code}',
      '-F',
      `headers=@${headers}`,
      `${kiln.url}/v1/builds`,
    ]);
    expect(stdout).toBe('401');
  });
});
