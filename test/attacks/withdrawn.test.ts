import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import type { BuildView } from '../../services/core/protocol/build.ts';
import type { SourceView } from '../../services/core/protocol/source.ts';
import type { SignerView } from '../../services/core/protocol/fleet.ts';
import { dkmsSource, freshDirectory, moduleCode } from '../machine/make-source.ts';
import { CLIENT } from '../machine/places.ts';
import { run, type Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { makeSmallRoot } from '../machine/small-root.ts';
import { until } from '../machine/until.ts';

describe('what is withdrawn', () => {
  const kiln = sharedKiln();
  let pinned: readonly string[];
  beforeAll(async () => {
    const [signer] = await kiln.json<SignerView[]>('signer', 'list');
    const certificate = join(await freshDirectory('signer'), 'signer.pem');
    pinned = ['--certificate', certificate];
    await writeFile(certificate, signer?.certificate ?? '');
  });

  const push = async (name: string, version: string, makefile?: string): Promise<void> => {
    const source = await dkmsSource(name, '', {
      'dkms.conf': `PACKAGE_NAME=${name}\nPACKAGE_VERSION=${version}\nBUILT_MODULE_NAME[0]=${name}\nDEST_MODULE_LOCATION[0]=/updates\n`,
      [`${name}.c`]: moduleCode(`MODULE_VERSION("${version}");`),
      ...(makefile === undefined ? {} : { Makefile: makefile }),
    });
    await kiln.json('source', 'push', source);
  };
  const on = (root: string, server: string, command: string, ...args: string[]): Promise<Ran> =>
    run(
      CLIENT,
      [command, ...args, '--root', root, '--server', server, '--patience', '0', ...pinned],
      {
        env: {
          ...process.env,
          KILN_TOKEN_FILE: join(kiln.data, 'admin.token'),
          KILN_CONFIG: join(root, 'no.config'),
        },
      },
    );

  it('is on no host that has not got it, and those that have it say so and go to what is next', async () => {
    for (const version of ['1.0', '2.0']) await push('bad', version);
    const root = await makeSmallRoot(kiln.release);
    const host = (command: string, ...args: string[]): Promise<Ran> =>
      on(root, kiln.url, command, ...args);
    expect(await host('install', 'bad')).toMatchObject({ status: 0 });
    const { modules } = await kiln.json<BuildView>('build', 'bad/2.0', '-k', kiln.kernel);
    await kiln.json('withdraw', 'source', 'bad/2.0', '--reason', 'it eats disks');

    const why = /the source bad\/2\.0 was withdrawn: it eats disks/;
    expect((await host('status')).stdout).toMatch(
      /bad\/2\.0 +withdrawn .*it eats disks; the service has bad\/1\.0, which is older than 2\.0 here/,
    );
    expect(await host('verify')).toMatchObject({
      status: 6,
      stderr: expect.stringMatching(why),
    });
    const sources = await kiln.json<SourceView[]>('source', 'list');
    const said = sources
      .filter(({ name }) => name === 'bad')
      .map(({ version, withdrawn }) => [version, withdrawn]);
    expect(said).toEqual([
      ['1.0', null],
      ['2.0', expect.stringMatching(why)],
    ]);
    const nobody = 'http://127.0.0.1:1';
    expect(await on(root, nobody, 'verify')).toMatchObject({
      status: 6,
      stdout: expect.stringMatching(
        /eats disks\nwhat is withdrawn is as last known: http:\/\/127\.0\.0\.1:1 .*refuse/,
      ),
      stderr: expect.stringMatching(why),
    });
    expect((await on(root, nobody, 'status')).stdout).toMatch(/withdrawn .*\(as last known\)/);
    expect(await host('autoinstall')).toMatchObject({
      status: 0,
      stderr: expect.stringMatching(/kiln autoinstall --allow-downgrade goes there/),
    });
    expect(await kiln.kiln('build', 'bad/2.0', '-k', kiln.kernel)).toMatchObject({
      status: 6,
      stderr: expect.stringMatching(why),
    });
    const fetchModule = async (): Promise<number> =>
      (
        await fetch(`${kiln.url}/v1/artifacts/${modules[0]?.signed}`, {
          headers: { Authorization: `Bearer ${await kiln.adminToken()}` },
        })
      ).status;
    expect(await fetchModule()).toBe(410);

    expect(await host('autoinstall', '--allow-downgrade')).toMatchObject({ status: 0 });
    expect((await host('status')).stdout).toMatch(/bad\/1\.0 +installed/);
    await push('bad', '2.1');
    expect(await host('autoinstall')).toMatchObject({ status: 0 });
    expect((await host('status')).stdout).toMatch(/bad\/2\.1 +installed/);

    await kiln.json('withdraw', 'source', 'bad/2.0', '--undo');
    expect(await fetchModule()).toBe(200);
  });

  it('is told by verify, which asks the service that is set up, if it answers in time', async () => {
    await push('silent', '1.0');
    const root = await makeSmallRoot(kiln.release);
    expect(await on(root, kiln.url, 'install', 'silent')).toMatchObject({ status: 0 });
    await kiln.json('withdraw', 'source', 'silent/1.0', '--reason', 'it leaks');
    const mute = createServer(() => {}).listen(0, '127.0.0.1');
    await once(mute, 'listening');
    const { port } = mute.address() as AddressInfo;
    const unasked = /^what is withdrawn is as last known: .* did not answer within 10 s$/m;
    expect(await on(root, `http://127.0.0.1:${port}`, 'verify')).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(unasked),
    });
    mute.close();
    mute.closeAllConnections();
    // No service is set up: there is nobody to ask.
    const alone = await run(CLIENT, ['verify', '--root', root, ...pinned], {
      env: { ...process.env, KILN_CONFIG: join(root, 'no.config') },
    });
    expect(alone).toMatchObject({ status: 0, stdout: expect.not.stringMatching(/withdrawn/) });
    expect(await on(root, kiln.url, 'verify', '--offline')).toMatchObject({ status: 0 });
    expect(await on(root, kiln.url, 'verify')).toMatchObject({
      status: 6,
      stderr: expect.stringMatching(/silent\/1\.0 was withdrawn: it leaks/),
    });
  });

  it('is not in a bundle’s answer on a host that knows of it', async () => {
    await push('carried', '1.0');
    const file = join(await freshDirectory('bundle'), 'kiln.bundle');
    await kiln.json('bundle', 'carried', '-k', kiln.release, '-o', file);
    await kiln.json('withdraw', 'source', 'carried/1.0', '--reason', 'leaks');
    const root = await makeSmallRoot(kiln.release);
    // It has asked since the bundle was made.
    await on(root, kiln.url, 'install', 'carried');
    expect(
      await on(root, 'http://127.0.0.1:1', 'install', '--bundle', file, 'carried'),
    ).toMatchObject({
      status: 6,
      stderr: expect.stringMatching(/carried\/1\.0 was withdrawn: leaks; nothing was installed/),
    });
  });

  it('as a build is never answered from the record', async () => {
    await push('once', '1.0');
    await push('once', '1.1');
    const { id } = await kiln.json<BuildView>('build', 'once', '-k', kiln.kernel);
    await kiln.json('withdraw', 'build', id, '--reason', 'its builder was taken over');
    const next = await kiln.json<BuildView>('build', 'once', '-k', kiln.kernel);
    expect(next.source.version).toBe('1.0');
    expect((await kiln.kiln('show', id)).stdout).toMatch(
      /withdrawn +the build .* was withdrawn: its builder was taken over/,
    );
  });

  it('ends while it is being built, and who waits hears why', async () => {
    await push('slow', '1.0', 'obj-m := slow.o\n$(shell sleep 300)\n');
    const waiting = kiln.kiln('build', 'slow', '-k', kiln.kernel);
    await until('it is being built', async () =>
      (await kiln.json<BuildView[]>('list')).some(
        ({ source, state }) => source.name === 'slow' && state === 'building',
      ),
    );
    await kiln.json('withdraw', 'source', 'slow/1.0', '--reason', 'not this one');
    expect(await waiting).toMatchObject({
      status: 6,
      stderr: expect.stringMatching(/slow\/1\.0 was withdrawn: not this one/),
    });
  });
});
