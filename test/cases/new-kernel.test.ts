import { copyFile, cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { copyRoot } from '../machine/debian-root.ts';
import { CHECKOUT, CLIENT } from '../machine/places.ts';
import { mustRun, run, type Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { addKernel } from '../machine/small-root.ts';

/** A kernel that comes, as kernel-install brings it: its plugin 40-kiln runs before 50-depmod. */

const kiln = sharedKiln();
const { release } = kiln;

describe('a new kernel that depmod was never run for', () => {
  let root: string;
  let home: string;

  const client = (...args: string[]): Promise<Ran> =>
    run(CLIENT, [...args, '--root', root, '-q'], {
      env: { PATH: process.env['PATH'], KILN_CONFIG: join(root, 'etc/kiln/config') },
    });

  const configFor = (place: string): string =>
    `server = ${kiln.url}\ntoken-file = ${place}/admin.token\ncertificate = ${place}/signing.crt\n`;

  /** As its package lays a kernel down: no index. */
  const unindex = async (): Promise<void> => {
    for (const name of await readdir(home))
      if (/^modules\.(dep|alias|symbols|softdep|devname|builtin\.(bin|alias\.bin))/.test(name))
        await rm(join(home, name));
  };

  beforeAll(async () => {
    root = await copyRoot('dracut', ['dracut', 'kmod']);
    home = join(root, 'lib/modules', release);
    await addKernel(root, release);
    await cp(join(CHECKOUT, 'client/package/root'), root, { recursive: true });
    await copyFile(CLIENT, join(root, 'usr/bin/kiln'));
    await mkdir(join(root, 'etc/kiln'), { recursive: true });
    for (const name of ['admin.token', 'signing.crt'])
      await copyFile(join(kiln.data, name), join(root, 'etc/kiln', name));
    await writeFile(join(root, 'etc/kiln/config'), configFor(join(root, 'etc/kiln')));
    await unindex();
    expect(await client('install', 'v4l2loopback', '-k', release)).toMatchObject({ status: 0 });
    expect(await client('remove', 'v4l2loopback', '-k', release)).toMatchObject({ status: 0 });
    await writeFile(join(root, 'etc/kiln/config'), configFor('/etc/kiln'));
    await unindex();
  });

  it('has its modules from the plugin all the same, in a root without /proc', async () => {
    expect(await readdir(join(root, 'proc'))).toEqual([]);
    const plugin = '/usr/lib/kernel/install.d/40-kiln.install';
    const { status, stderr } = await run('chroot', [root, plugin, 'add', release]);
    expect({ status, stderr }).toEqual({
      status: 0,
      stderr: expect.stringMatching(/v4l2loopback\/0\.12\.7 +\S+ +installed/),
    });
    expect(await readdir(join(home, 'updates/kiln'))).toEqual(['v4l2loopback.ko']);
    expect(await readFile(join(home, 'modules.dep'), 'utf8')).toMatch(
      /^updates\/kiln\/v4l2loopback\.ko:/m,
    );
    // What was mounted for the client was its own.
    expect(await readdir(join(root, 'proc'))).toEqual([]);
  });

  it('keeps its own module of the same version, although no index names it', async () => {
    const own = join(home, 'kernel/drivers/media');
    await mkdir(own, { recursive: true });
    await mustRun('mv', [join(home, 'updates/kiln/v4l2loopback.ko'), own]);
    await rm(join(root, 'var/lib/kiln'), { recursive: true });
    await unindex();
    await writeFile(join(root, 'etc/kiln/config'), configFor(join(root, 'etc/kiln')));
    expect(await client('install', 'v4l2loopback', '-k', release)).toMatchObject({
      status: 77,
      stderr: expect.stringMatching(/has v4l2loopback itself, in the same version/),
    });
  });
});
