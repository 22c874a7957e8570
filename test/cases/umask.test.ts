import { appendFile, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { freshDirectory } from '../machine/make-source.ts';
import { CLIENT } from '../machine/places.ts';
import { mustRun, run, type Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { makeSmallRoot } from '../machine/small-root.ts';

/** Root's umask is 077 on many hosts: others load modules, run modinfo and read receipts all the same. */

const kiln = sharedKiln();
const { release } = kiln;

describe('under root’s umask 077', () => {
  let root: string;
  let etc: string;

  /** The client as a root shell with that umask runs it. */
  const client = (...args: string[]): Promise<Ran> =>
    run('sh', ['-c', 'umask 077; exec "$0" "$@"', CLIENT, ...args], {
      env: { PATH: process.env['PATH'], KILN_CONFIG: join(etc, 'kiln/config') },
    });
  const mustClient = async (...args: string[]): Promise<void> =>
    expect(await client(...args)).toMatchObject({ status: 0 });

  /** Everything below a directory that its group or others could not use, or could write. */
  const wrong = async (directory: string, isRight: (path: string) => boolean = () => false) => {
    const found: string[] = [];
    for (const name of ['', ...(await readdir(directory, { recursive: true }))]) {
      const { mode } = await stat(join(directory, name));
      const wanted = (mode & 0o170000) === 0o040000 ? 0o755 : 0o644;
      if ((mode & 0o777) !== wanted && !isRight(name))
        found.push(`${name} ${(mode & 0o777).toString(8)}`);
    }
    return found;
  };

  beforeAll(async () => {
    root = await makeSmallRoot(release);
    await mustRun('chmod', ['-R', 'a+rX,u+w,go-w', root]);
    etc = await freshDirectory('etc');
    await mustRun('chmod', ['755', etc]);
    await mustClient(
      'setup',
      kiln.url,
      '--trust-first-use',
      '--token-file',
      join(kiln.data, 'admin.token'),
    );
  });

  it('modules, indexes and receipts are for everybody, what is kept for a rollback is root’s', async () => {
    await mustClient('install', 'v4l2loopback', '-k', release, '--root', root, '-q');
    expect(await wrong(join(root, 'lib/modules', release))).toEqual([]);
    const isRoots = (name: string): boolean => /^(lock|previous(\/|$))/.test(name);
    expect(await wrong(join(root, 'var/lib/kiln'), isRoots)).toEqual([]);
    expect((await stat(join(root, 'var/lib/kiln/previous'))).mode & 0o777).toBe(0o700);
  });

  it('a removal and a rollback leave the same', async () => {
    await mustClient('remove', 'v4l2loopback', '--root', root, '-q');
    expect(await wrong(join(root, 'lib/modules', release))).toEqual([]);
    await mustClient('rollback', '--root', root, '-q');
    expect(await wrong(join(root, 'lib/modules', release))).toEqual([]);
    expect(await wrong(join(root, 'var/lib/kiln/receipts'))).toEqual([]);
    await mustClient('verify', '--root', root);
  });

  it('the configuration is for everybody, and with a proxy’s password for root alone', async () => {
    expect(await wrong(join(etc, 'kiln'))).toEqual([]);
    await appendFile(join(etc, 'kiln/config'), 'proxy = http://me:secret@127.0.0.1:9\n');
    const setup = [
      'setup',
      kiln.url,
      '--trust-first-use',
      '--token-file',
      join(kiln.data, 'admin.token'),
    ];
    const env = { PATH: process.env['PATH'], KILN_CONFIG: join(etc, 'kiln/config'), no_proxy: '*' };
    // Whatever the umask: also where it would let all read it.
    const open = await run('sh', ['-c', 'umask 000; exec "$0" "$@"', CLIENT, ...setup], { env });
    expect(open).toMatchObject({ status: 0 });
    expect((await stat(join(etc, 'kiln/config'))).mode & 0o777).toBe(0o600);
    expect((await stat(join(etc, 'kiln/signer.pem'))).mode & 0o777).toBe(0o644);
  });
});
