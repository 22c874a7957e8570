import {
  chmod,
  copyFile,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { IssuedToken } from '../../services/core/protocol/token.ts';
import { freshDirectory, kbuildSource } from '../machine/make-source.ts';
import { WORK } from '../machine/places.ts';
import { mustRun, type Ran } from '../machine/run.ts';
import { makeScratchHost, type ScratchHost } from '../machine/scratch-host.ts';
import { promtool } from '../machine/prometheus.ts';
import { sharedKiln } from '../machine/shared.ts';

const HOST = 'test/host';
/** Is there while tests change the host. */
const CHANGING = join(WORK, `${HOST}.changing`);
const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

describe('a host without compiler, headers or Node', () => {
  const kiln = sharedKiln();
  let host: ScratchHost;
  let updates: string;

  beforeAll(async () => {
    const { secret } = await kiln.json<IssuedToken>('token', 'create', 'host');
    // Tests that were broken off may have left the host without its depmod, say.
    if (await isThere(CHANGING)) await rm(join(WORK, HOST), { recursive: true, force: true });
    host = await makeScratchHost(HOST, kiln.release, secret);
    await writeFile(CHANGING, '');
    updates = join(host.root, 'lib/modules', kiln.release, 'updates/kiln');
    await rm(join(host.root, 'var/lib/kiln'), { recursive: true, force: true });
    await rm(updates, { recursive: true, force: true });
    expect(
      (
        await host.run(
          'kiln',
          'setup',
          kiln.url,
          '--token-file',
          '/etc/kiln/token',
          '--trust-first-use',
        )
      ).status,
    ).toBe(0);
  });

  afterAll(() => rm(CHANGING, { force: true }));

  const install = (...args: string[]) =>
    host.run('kiln', 'install', 'v4l2loopback', '-k', kiln.release, '-q', ...args);
  const files = async (): Promise<string[]> => (await readdir(updates).catch(() => [])).sort();

  it('installs a verified module where depmod finds it, and keeps a receipt', async () => {
    expect(await install()).toMatchObject({ status: 0, stderr: '' });
    expect(await files()).toEqual(['v4l2loopback.ko']);
    expect(
      (
        await host.run('modinfo', '-k', kiln.release, '-F', 'filename', 'v4l2loopback')
      ).stdout.trim(),
    ).toBe(`/lib/modules/${kiln.release}/updates/kiln/v4l2loopback.ko`);
    expect((await host.run('kiln', 'status')).stdout).toMatch(
      /v4l2loopback\/0\.12\.7 +installed +signed/,
    );
    expect((await host.run('kiln', 'verify')).status).toBe(0);
  });

  it('notices one flipped byte, and puts it right', async () => {
    const file = join(updates, 'v4l2loopback.ko');
    const bytes = await readFile(file);
    bytes.writeUInt8(bytes.readUInt8(5000) ^ 1, 5000);
    await writeFile(file, bytes);
    expect(await host.run('kiln', 'verify')).toMatchObject({
      status: 6,
      stdout: expect.stringMatching(/its bytes are not those that were installed/),
    });
    expect((await host.run('kiln', 'status')).stdout).toMatch(/overridden/);
    expect((await install()).status).toBe(0);
    expect((await host.run('kiln', 'verify')).status).toBe(0);
  });

  it('installs nothing that another key signed', async () => {
    const other = await freshDirectory('other');
    await mustRun('openssl', [
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-subj',
      '/CN=another',
      '-keyout',
      join(other, 'k'),
      '-out',
      join(host.root, 'etc/kiln/other.pem'),
    ]);
    expect(await host.run('kiln', 'remove', 'v4l2loopback', '-q')).toMatchObject({
      status: 0,
      stderr: '',
    });
    expect(await install('--certificate', '/etc/kiln/other.pem')).toMatchObject({
      status: 6,
      stderr: expect.stringMatching(/another key than the pinned certificate/),
    });
    expect(await files()).toEqual([]);
  });

  it('installs nothing unsigned unless it is told to', async () => {
    await mkdir(join(host.root, 'tmp/tiny'), { recursive: true });
    const source = await kbuildSource('tiny');
    await mustRun('cp', ['-r', `${source}/.`, join(host.root, 'tmp/tiny')]);
    const args = [
      'install',
      '/tmp/tiny',
      '-k',
      kiln.release,
      '--name',
      'tiny',
      '--version',
      '1',
      '-q',
    ];
    expect(await host.run('kiln', ...args)).toMatchObject({
      status: 6,
      stderr: expect.stringMatching(
        /not signed: the source was neither pushed by ci or an admin nor verified from a distribution’s archive; --allow-unsigned/,
      ),
    });
    expect(await files()).toEqual([]);
    expect((await host.run('kiln', ...args, '--allow-unsigned')).status).toBe(0);
    expect((await host.run('kiln', 'status')).stdout).toMatch(/tiny\/1 +installed +unsigned/);
    expect((await host.run('kiln', 'remove', 'tiny', '-k', kiln.release)).status).toBe(0);
  });

  it('lets no source take another one’s module, and mends a damaged receipt', async () => {
    await mkdir(join(host.root, 'tmp/rival'), { recursive: true });
    await mustRun('cp', [
      '-r',
      `${await kbuildSource('v4l2loopback')}/.`,
      join(host.root, 'tmp/rival'),
    ]);
    expect((await install()).status).toBe(0);
    const rival = await host.run(
      'kiln',
      'install',
      '/tmp/rival',
      '-k',
      kiln.release,
      '--name',
      'rival',
      '--allow-unsigned',
      '-q',
    );
    expect(rival).toMatchObject({
      status: 7,
      stderr: expect.stringMatching(
        /v4l2loopback\.ko is already installed from v4l2loopback\/0\.12\.7/,
      ),
    });
    const receipt = join(host.root, 'var/lib/kiln/receipts', kiln.release, 'v4l2loopback.json');
    await writeFile(receipt, '{');
    expect(await host.run('kiln', 'verify')).toMatchObject({
      status: 6,
      stderr: expect.stringMatching(/damaged receipts/),
    });
    expect((await install()).status).toBe(0);
    expect((await host.run('kiln', 'verify')).status).toBe(0);
    await host.run('kiln', 'remove', 'v4l2loopback', '-k', kiln.release);
  });

  it('is as it was when depmod fails', async () => {
    const depmod = join(host.root, 'usr/sbin/depmod');
    await rename(depmod, `${depmod}.kept`);
    try {
      expect(await install()).toMatchObject({
        status: 7,
        stderr: expect.stringMatching(/depmod.*nothing was changed/),
      });
      await writeFile(depmod, '#!/bin/sh\necho broken >&2\nexit 1\n');
      await chmod(depmod, 0o755);
      expect(await install()).toMatchObject({
        status: 7,
        stderr: expect.stringMatching(/broken.*nothing was changed/),
      });
    } finally {
      await rename(`${depmod}.kept`, depmod);
    }
    expect(await files()).toEqual([]);
    expect((await host.run('kiln', 'status')).stdout).toMatch(/v4l2loopback +missing/);
    const tell = (file: string): Promise<Ran> =>
      host.run('kiln', 'status', '--offline', '--prometheus', file);
    expect(await tell('/root/kiln.prom')).toMatchObject({ status: 0 });
    const text = await readFile(join(host.root, 'root/kiln.prom'), 'utf8');
    expect(await promtool(['check', 'metrics'], text)).toEqual({
      status: 0,
      stdout: '',
      stderr: '',
    });
    expect(text).toContain('kiln_host_modules{state="missing"} 1\n');
    expect(text).toContain(
      `kiln_host_module{name="v4l2loopback",release="${kiln.release}",state="missing",version=""} 1\n`,
    );
    expect(await tell('/nowhere/kiln.prom')).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/there is no directory \/nowhere; make it/),
    });
  });

  it('leaves out a module that depmod is told to prefer another one to, and finishes the others', async () => {
    const rule = join(host.root, 'etc/depmod.d/other.conf');
    const rival = join(host.root, 'lib/modules', kiln.release, 'kernel/lib/v4l2loopback.ko');
    await mkdir(join(host.root, 'etc/depmod.d'), { recursive: true });
    await writeFile(rule, 'search built-in updates\n');
    try {
      await copyFile(join(host.root, 'lib/modules', kiln.release, 'kernel/lib/crc7.ko'), rival);
      const other = join(host.root, 'tmp/other');
      await rm(other, { recursive: true, force: true });
      await mustRun('cp', ['-r', await kbuildSource('not-preferred'), other]);
      await kiln.json('source', 'push', other, '--name', 'not-preferred', '--version', '1');
      expect(await install('not-preferred')).toMatchObject({
        status: 7,
        stderr: expect.stringMatching(/1 of 2 .*\n.*depmod prefers another v4l2loopback/),
      });
      expect(await files()).toEqual(['not-preferred.ko']);
      expect((await host.run('kiln', 'verify')).status).toBe(0);
      expect((await host.run('kiln', 'remove', 'not-preferred', '-k', kiln.release)).status).toBe(
        0,
      );
      expect(await install('--force')).toMatchObject({
        status: 7,
        stderr: expect.stringMatching(/depmod prefers another v4l2loopback/),
      });
    } finally {
      await rm(rule);
      await rm(rival, { force: true });
    }
    expect(await files()).toEqual([]);
  });

  it('keeps the module it had when a newer one cannot be laid down', async () => {
    expect((await install()).status).toBe(0);
    const before = await readFile(join(updates, 'v4l2loopback.ko'));
    const depmod = join(host.root, 'usr/sbin/depmod');
    await rename(depmod, `${depmod}.kept`);
    const failed = await install();
    await rename(`${depmod}.kept`, depmod);
    expect(failed.status).toBe(7);
    expect(await files()).toEqual(['v4l2loopback.ko']);
    expect((await readFile(join(updates, 'v4l2loopback.ko'))).equals(before)).toBe(true);
    expect((await host.run('kiln', 'verify')).status).toBe(0);
  });

  it('has nothing left of a module that was removed', async () => {
    expect((await host.run('kiln', 'remove', 'v4l2loopback', '-k', kiln.release)).status).toBe(0);
    expect((await host.run('modinfo', '-k', kiln.release, 'v4l2loopback')).status).not.toBe(0);
    expect(await files()).toEqual([]);
    expect(await host.run('kiln', 'remove', 'v4l2loopback', '-k', kiln.release)).toMatchObject({
      status: 3,
    });
  });

  it('loads into the running kernel only, and says so before anything is installed', async () => {
    const named = ['install', 'v4l2loopback', '-k', kiln.release];
    const other = await host.run('kiln', ...named, '--load');
    expect(other).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(
        /--load loads into the running kernel, \S+; leave out --load, or --root and -k/,
      ),
    });
    const alone = await host.run('kiln', ...named, '--parameter', 'v4l2loopback.devices=2');
    expect(alone).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('--parameter is for loading; add --load'),
    });
    expect(await files()).toEqual([]);
  });

  it('says which kernels there are when the one named is not installed', async () => {
    expect(
      await host.run('kiln', 'install', 'v4l2loopback', '-k', '6.1.0-1-amd64', '-q'),
    ).toMatchObject({
      status: 7,
      stderr: expect.stringMatching(/6\.1\.0-1-amd64 is not installed here/),
    });
    const { status, stderr } = await kiln.kiln(
      'install',
      'v4l2loopback',
      '--root',
      await freshDirectory('empty'),
      '-k',
      kiln.release,
      '--allow-unsigned',
      '-q',
    );
    expect({ status, stderr }).toMatchObject({
      status: 7,
      stderr: expect.stringMatching(/is not installed here/),
    });
  });

  it('can be another root, and a link that leads out of it is not followed', async () => {
    const certificate = join(host.root, 'etc/kiln/signer.pem');
    const args = [
      'install',
      'v4l2loopback',
      '-k',
      kiln.release,
      '--certificate',
      certificate,
      '-q',
    ];
    expect((await kiln.kiln(...args, '--root', host.root)).status).toBe(0);
    expect(await files()).toEqual(['v4l2loopback.ko']);
    await kiln.kiln('remove', 'v4l2loopback', '-k', kiln.release, '--root', host.root);

    const root = await freshDirectory('root');
    const outside = await freshDirectory('outside');
    await mkdir(join(outside, kiln.release));
    await mkdir(join(root, 'lib'));
    await symlink(outside, join(root, 'lib/modules'));
    expect(await kiln.kiln(...args, '--root', root)).toMatchObject({
      status: 7,
      stderr: expect.stringMatching(/leads out of/),
    });
    expect(await readdir(join(outside, kiln.release))).toEqual([]);
  });
});
