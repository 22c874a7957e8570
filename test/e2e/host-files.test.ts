import { readdir, readFile, rm, stat, symlink, writeFile, mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import type { IssuedToken } from '../../services/core/protocol/token.ts';
import { releasesOf } from '../machine/debian.ts';
import { fewHeaders } from '../machine/few-headers.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { freshDirectory, kbuildSource } from '../machine/make-source.ts';
import { CLIENT } from '../machine/places.ts';
import { run, type Ran } from '../machine/run.ts';
import { makeSmallRoot, stateOf } from '../machine/small-root.ts';

/** Files that hosts get beside a source's modules, because the source's owner says so. */

const FIRMWARE = Buffer.from([0, 255, 1, 254]);
const FILES = [
  '--file=/lib/firmware/camera/boot.bin=firmware/boot.bin',
  '--file=/lib/udev/rules.d/60-camera.rules=60-camera.rules',
  '--file=/lib/modprobe.d/camera.conf=camera.conf',
];
const RULES = 'lib/udev/rules.d/60-camera.rules';
const CONF = 'lib/modprobe.d/camera.conf';

let kiln: KilnService;
let older: string;
let newer: string;
let root: string;

beforeAll(async () => {
  [newer = '', older = ''] = await releasesOf('amd64');
  kiln = await startKiln(await freshDirectory('host-files'), { KILN_LOG_LEVEL: 'warn' });
  await pinToolchain(kiln);
  for (const release of [older, newer])
    await kiln.json('kernel', 'push', await fewHeaders(release));
  root = await makeSmallRoot(older, newer);
  await onHost('setup', kiln.url, '--trust-first-use');
});
afterAll(async () => {
  await kiln.stop();
});

/** The client on the host, as the admin. */
const onHost = (...args: string[]): Promise<Ran> =>
  run(CLIENT, [...args, '--root', root], {
    env: {
      ...process.env,
      KILN_SERVER: kiln.url,
      KILN_TOKEN_FILE: join(kiln.data, 'admin.token'),
      KILN_CONFIG: join(kiln.data, 'host.config'),
    },
  });

/** A module's source with files for hosts. */
const makeSource = async (name: string, words: string): Promise<string> => {
  const source = await kbuildSource(name);
  await mkdir(join(source, 'firmware'));
  await writeFile(join(source, 'firmware/boot.bin'), FIRMWARE);
  await writeFile(join(source, '60-camera.rules'), `# ${words}\n`);
  await writeFile(join(source, 'camera.conf'), `options camera a=1 # ${words}\n`);
  return source;
};
const push = (source: string, version: string, ...files: string[]): Promise<Ran> =>
  kiln.kiln('source', 'push', source, '--name', 'camera', '--version', version, ...files);
const read = (path: string): Promise<string | null> =>
  readFile(join(root, path), 'latin1').catch(() => null);
const firmwareFor = (release: string): Promise<string | null> =>
  read(`lib/firmware/updates/${release}/camera/boot.bin`);
const boot = FIRMWARE.toString('latin1');

describe('files that a source’s owner names for hosts', () => {
  it('are named by their places and by paths of the source', async () => {
    const source = await makeSource('camera', 'first');
    await symlink('boot.bin', join(source, 'firmware/link.bin'));
    await writeFile(join(source, 'large.conf'), 'x'.repeat(64 * 1024 + 1));
    await writeFile(join(source, 'binary.conf'), Buffer.from([0xff, 0xfe]));
    const bad: readonly (readonly [file: string, words: RegExp])[] = [
      ['/etc/passwd=camera.conf', /"\/etc\/passwd" is not where a file for hosts can be; give/],
      ['/lib/firmware/../x=camera.conf', /is not where a file for hosts can be/],
      ['/lib/firmware/updates/x=camera.conf', /is not where a file for hosts can be/],
      ['/lib/modprobe.d/a/b.conf=camera.conf', /is not where a file for hosts can be/],
      ['/lib/firmware/x=nothing', /the source has no file "nothing", which is to go to/],
      ['/lib/firmware/x=../camera.conf', /the source has no file/],
      ['/lib/firmware/x=firmware/link.bin', /the source has no file/],
      ['/lib/firmware/x', /--file takes PLACE=PATH/],
      ['/lib/modprobe.d/a.conf=large.conf', /large.conf is over 65536 bytes/],
      ['/lib/modprobe.d/a.conf=binary.conf', /binary.conf is no text in UTF-8/],
    ];
    for (const [file, words] of bad)
      expect(await push(source, '0', `--file=${file}`)).toMatchObject({
        status: 2,
        stderr: expect.stringMatching(words),
      });
    const both = ['a', 'a/b'].map((place) => `--file=/lib/firmware/${place}=firmware/boot.bin`);
    expect(await push(source, '0', ...both)).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/\/lib\/firmware\/a\/b would be below a file that goes to/),
    });
    for (const name of ['link.bin', '../large.conf', '../binary.conf'])
      await rm(join(source, 'firmware', name));
    expect(await push(source, '1', ...FILES)).toMatchObject({ status: 0 });
  });

  it('come with the modules, are in the signed provenance, and pass verification', async () => {
    const installed = await onHost('install', 'camera', '-k', older, '-k', newer);
    expect(installed).toMatchObject({ status: 0 });
    for (const release of [older, newer]) expect(await firmwareFor(release)).toBe(boot);
    expect(await read(RULES)).toBe('# first\n');
    expect(await read(CONF)).toBe('options camera a=1 # first\n');
    const receipt = JSON.parse((await read(`var/lib/kiln/receipts/${newer}/camera.json`)) ?? '');
    const { payload } = JSON.parse((receipt as { provenance: string }).provenance);
    expect(Buffer.from(payload as string, 'base64').toString('utf8')).toContain(
      `"/lib/firmware/camera/boot.bin":"${digestOf(FIRMWARE)}"`,
    );
    const verified = await onHost('verify', '--offline');
    expect(verified).toMatchObject({ status: 0 });
    expect(verified.stdout).toContain(join(root, RULES));
    const [build] = await kiln.json<BuildView[]>('list');
    expect((await kiln.kiln('show', build?.id ?? '')).stdout).toMatch(
      /^\/lib\/modprobe\.d\/camera\.conf +for hosts sha256:/m,
    );
    expect((await onHost('status')).stdout.match(/camera\/1 +installed/g)).toHaveLength(2);
  });

  it('are told of when somebody changes them, and come again', async () => {
    const place = join(root, `lib/firmware/updates/${newer}/camera/boot.bin`);
    await writeFile(place, 'other');
    expect(await onHost('verify', '--offline')).toMatchObject({
      status: 6,
      stdout: expect.stringMatching(/camera\/boot\.bin +it has other bytes than were installed/),
    });
    expect((await onHost('status')).stdout).toMatch(/overridden/);
    expect(await onHost('install', 'camera', '-k', newer)).toMatchObject({ status: 0 });
    expect(await firmwareFor(newer)).toBe(boot);
    await rm(join(root, CONF));
    expect(await onHost('verify', '--offline')).toMatchObject({
      status: 6,
      stdout: expect.stringMatching(/camera\.conf +it is missing/),
    });
    expect(await onHost('install', 'camera', '-k', newer)).toMatchObject({ status: 0 });
    expect(await read(CONF)).toBe('options camera a=1 # first\n');
  });

  it('are, where kernels share them, as the latest installation has them, and as another one has them when that goes', async () => {
    const source = await makeSource('camera', 'second');
    expect(await push(source, '2', ...FILES.slice(0, 2))).toMatchObject({ status: 0 });
    expect(await onHost('install', 'camera/2', '-k', newer)).toMatchObject({ status: 0 });
    expect(await read(RULES)).toBe('# second\n');
    // The other kernel still has it.
    expect(await read(CONF)).toBe('options camera a=1 # first\n');
    expect(await onHost('verify', '--offline')).toMatchObject({ status: 0 });
    expect(await onHost('remove', 'camera', '-k', newer)).toMatchObject({ status: 0 });
    expect(await read(RULES)).toBe('# first\n');
    expect(await firmwareFor(newer)).toBe(null);
    expect(await onHost('verify', '--offline')).toMatchObject({ status: 0 });
    expect(await onHost('rollback')).toMatchObject({ status: 0 });
    expect(await read(RULES)).toBe('# second\n');
    expect(await firmwareFor(newer)).toBe(boot);
    expect(await onHost('rollback')).toMatchObject({ status: 0 });
  });

  it('go with the last modules, and leave nothing', async () => {
    expect(await onHost('remove', 'camera')).toMatchObject({ status: 0 });
    for (const path of [RULES, CONF]) expect(await read(path)).toBe(null);
    await expect(stat(join(root, 'lib/firmware/updates'))).rejects.toThrow('ENOENT');
  });

  it('stay where somebody has changed them since', async () => {
    expect(await onHost('install', 'camera/1', '-k', older)).toMatchObject({ status: 0 });
    await writeFile(join(root, CONF), 'options camera a=2\n');
    expect(await onHost('remove', 'camera')).toMatchObject({ status: 0 });
    expect([await read(RULES), await read(CONF)]).toEqual([null, 'options camera a=2\n']);
    await rm(join(root, CONF));
  });

  it('take nobody’s place', async () => {
    await mkdir(dirname(join(root, RULES)), { recursive: true });
    await writeFile(join(root, RULES), 'of a package\n');
    const before = await stateOf(root);
    expect(await onHost('install', 'camera', '-k', newer)).toMatchObject({
      status: 7,
      stderr: expect.stringMatching(
        /camera brings \/lib\/udev\/rules\.d\/60-camera\.rules, and one is there that Kiln has not installed; move it away/,
      ),
    });
    expect(await stateOf(root)).toEqual(before);
    await rm(join(root, RULES));
    const other = await makeSource('copy', 'of another source');
    await kiln.json('source', 'push', other, '--name', 'copy', '--version', '1', ...FILES);
    expect(await onHost('install', 'camera', '-k', newer)).toMatchObject({ status: 0 });
    expect(await onHost('install', 'copy', '-k', newer)).toMatchObject({
      status: 7,
      stderr: expect.stringMatching(/is already installed from camera\/2; remove that first/),
    });
    expect(await onHost('remove', 'camera')).toMatchObject({ status: 0 });
  });

  it('come from a bundle, too', async () => {
    const file = join(await freshDirectory('bundle'), 'camera.tar');
    expect(await kiln.kiln('bundle', 'camera', '-k', newer, '-o', file)).toMatchObject({
      status: 0,
    });
    const offline = ['--bundle', file, '--server', 'http://127.0.0.1:9', '--patience', '0'];
    expect(await onHost('install', 'camera', '-k', newer, ...offline)).toMatchObject({ status: 0 });
    expect(await firmwareFor(newer)).toBe(boot);
    expect(await read(RULES)).toBe('# second\n');
    expect(await onHost('remove', 'camera')).toMatchObject({ status: 0 });
  });

  it('are left out where nobody vouches for the source', async () => {
    const source = await makeSource('mine', 'a client’s');
    const { secret } = await kiln.json<IssuedToken>('token', 'create', 'a-client');
    const token = join(await freshDirectory('token'), 'token');
    await writeFile(token, secret, { mode: 0o600 });
    const named = [source, '--name', 'mine', '--version', '1', ...FILES];
    const as = ['--token-file', token, '--allow-unsigned'];
    const ran = await onHost('install', ...named, '-k', newer, ...as);
    expect(ran).toMatchObject({
      status: 0,
      stderr: expect.stringMatching(/mine brings files for hosts \(.*\), which are left out/),
    });
    expect(await readdir(join(root, 'lib/udev/rules.d'))).toEqual([]);
    expect(await firmwareFor(newer)).toBe(null);
  });
});
