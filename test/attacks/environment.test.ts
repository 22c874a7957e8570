import { copyFile, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { startTls } from '../machine/faulty-network.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { CLIENT } from '../machine/places.ts';
import { mustRun, run } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { makeSmallRoot } from '../machine/small-root.ts';

/** The caller's variables: those that name the system's CAs count, and no program that the client runs gets any. */

const kiln = sharedKiln();
const ENVIRONMENT = {
  PATH: process.env['PATH'],
  KILN_TOKEN_FILE: join(kiln.data, 'admin.token'),
  KILN_CONFIG: '/nowhere',
};

describe('the CA of a company', () => {
  let tls: Awaited<ReturnType<typeof startTls>>;
  let directory: string;
  beforeAll(async () => {
    tls = await startTls(kiln.url);
    directory = await freshDirectory('cas');
    await copyFile(tls.ca, join(directory, 'company.pem'));
    await mustRun('openssl', ['rehash', directory]);
  });
  afterAll(() => tls.close());

  it.each([
    ['SSL_CERT_FILE', () => tls.ca],
    ['SSL_CERT_DIR', () => directory],
  ])('is trusted where %s names it, as by other programs', async (name, value) => {
    const server = `https://127.0.0.1:${tls.port}`;
    const list = (env: Readonly<Record<string, string>>) =>
      run(CLIENT, ['kernel', 'list', '--server', server, '--patience', '0'], {
        env: { ...ENVIRONMENT, ...env },
      });
    expect(await list({})).toMatchObject({ status: 5 });
    expect(await list({ [name]: value() })).toMatchObject({ status: 0, stderr: '' });
  });
});

describe('a program that the client runs', () => {
  it('gets a path and a locale, whatever the caller’s variables are', async () => {
    const root = await makeSmallRoot(kiln.release);
    const log = join(await freshDirectory('trace'), 'log');
    await mkdir(join(root, 'etc'));
    const caller = [
      'LD_PRELOAD=/lib/x86_64-linux-gnu/libm.so.6',
      'LD_LIBRARY_PATH=/tmp',
      'SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt',
      'PATH=/tmp:/usr/sbin:/usr/bin:/sbin:/bin',
      'LC_ALL=C.UTF-8',
      `KILN_SERVER=${kiln.url}`,
    ];
    const tracer = ['-f', '-v', '-s', '300', '-e', 'trace=execve', '-e', 'status=successful'];
    const words = ['install', 'v4l2loopback', '-k', kiln.release, '--root', root, '-q'];
    const pinned = ['--certificate', join(kiln.data, 'signing.crt')];
    const ran = await run(
      'strace',
      [...tracer, '-o', log, 'env', ...caller, CLIENT, ...words, ...pinned],
      { env: ENVIRONMENT },
    );
    expect(ran).toMatchObject({ status: 0 });
    const calls = (await readFile(log, 'utf8'))
      .split('\n')
      .filter((line) => / execve\("(?!\S*\/(env|kiln)")/.test(line));
    const programs = calls.map((call) => /execve\("[^"]*\/([^"/]+)"/.exec(call)?.[1]);
    expect(programs).toEqual(expect.arrayContaining(['flock', 'depmod']));
    for (const call of calls)
      expect(call).toContain('], ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"]) = 0');
  });
});
