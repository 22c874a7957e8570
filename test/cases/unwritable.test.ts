import { chmod, copyFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { startRelay, type Relay } from '../machine/faulty-network.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { CHECKOUT, CLIENT } from '../machine/places.ts';
import { run, type Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { makeSmallRoot, stateOf } from '../machine/small-root.ts';

/** A host whose /lib/modules nobody can write, as where the system is an image (ostree, squashfs). */

const kiln = sharedKiln();
const { release } = kiln;
let root: string;
let relay: Relay;

/** The client in a mount namespace in which the root's /lib/modules is read-only. */
const client = async (...args: string[]): Promise<Ran> => {
  const config = join(await freshDirectory('config'), 'config');
  await writeFile(
    config,
    `server = ${relay.url}\ntoken-file = ${join(kiln.data, 'admin.token')}\ncertificate = ${join(kiln.data, 'signing.crt')}\n`,
  );
  const script = 'mount --bind -o ro "$0" "$0" && exec "$@"';
  const given = [CLIENT, ...args, '--root', root];
  return run('unshare', ['--mount', 'sh', '-c', script, join(root, 'lib/modules'), ...given], {
    env: { PATH: process.env['PATH'], KILN_CONFIG: config },
  });
};

const SENTENCE =
  /lib\/modules\/\S+ is on a read-only file system; remount it writable, or, .*kiln with --root DIR where that image is made/g;

describe('a host whose modules cannot be written', () => {
  beforeAll(async () => {
    root = await makeSmallRoot(release);
    relay = await startRelay(kiln.url);
  });
  afterAll(() => relay.close());

  const says = ({ stdout, stderr }: Ran): readonly string[] =>
    (stdout + stderr).match(SENTENCE) ?? [];

  it('is told so in one sentence, and no build is asked for', async () => {
    const before = await stateOf(root);
    const one = await client('install', 'v4l2loopback', '-k', release, '-q');
    expect({ status: one.status, said: says(one).length }).toEqual({ status: 7, said: 1 });
    expect(one.stderr).not.toMatch(/as root|could not be undone/);
    // Two modules, one reason: said once.
    const two = await client('install', 'v4l2loopback', 'zfs', '-k', release, '-q');
    expect({ status: two.status, said: says(two).length }).toEqual({ status: 7, said: 1 });
    expect(two.stderr).toMatch(/v4l2loopback for \S+, zfs for/);
    expect(relay.asked()).not.toMatch(/POST \/v1\/builds/);
    expect(await stateOf(root)).toEqual(before);
  });

  it('asks for none either when the timer comes, and says the same', async () => {
    await writeFile(
      join(root, 'var/lib/kiln/wanted.json'),
      JSON.stringify([{ name: 'v4l2loopback', version: null, how: { waive: [], settings: {} } }]),
    );
    const timer = await client('autoinstall', '-k', release, '--hook', '-q');
    expect({ status: timer.status, said: says(timer).length }).toEqual({ status: 0, said: 1 });
    expect(relay.asked()).not.toMatch(/POST \/v1\/builds/);
    expect(says(await client('status', '--offline'))).toHaveLength(1);
    const unit = 'client/package/root/usr/lib/systemd/system/kiln-autoinstall.service';
    expect(await readFile(join(CHECKOUT, unit), 'utf8')).toMatch(
      /^ConditionPathIsReadWrite=\/lib\/modules$/m,
    );
  });

  it('hears of it from doctor before', async () => {
    const { stdout } = await client('doctor', '-k', release, '--json');
    const { checks } = JSON.parse(stdout) as { checks: { name: string; step: string | null }[] };
    expect(checks.find(({ name }) => name === 'modules')?.step).toMatch(SENTENCE);
  });
});

describe('a user who is not root', () => {
  it('is told to be root, before a build is asked for', async () => {
    const mine = await makeSmallRoot(release);
    await chmod(mine, 0o755);
    await copyFile(CLIENT, join(mine, 'kiln'));
    // The scratch directory is private.
    const script = 'mount --bind "$0" /mnt && cd / && exec "$@"';
    const user = ['setpriv', '--reuid=65534', '--clear-groups'];
    const args = ['/mnt/kiln', 'install', 'v4l2loopback', '-k', release, '-q', '--root', '/mnt'];
    const env = { PATH: process.env['PATH'], KILN_CONFIG: '/mnt/none', KILN_SERVER: kiln.url };
    const unsigned = [...args, '--allow-unsigned'];
    expect(
      await run('unshare', ['--mount', 'sh', '-c', script, mine, ...user, ...unsigned], { env }),
    ).toMatchObject({ status: 7, stderr: expect.stringMatching(/run kiln as root\n$/) });
  });
});
