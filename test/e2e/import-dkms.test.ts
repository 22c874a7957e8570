import { cp, lstat, mkdir, readdir, readlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { connectDocker } from '../../services/builder/docker.ts';
import type { Digest } from '../../services/core/digest.ts';
import { unpackPackages } from '../machine/debian.ts';
import { CLIENT } from '../machine/places.ts';
import { mustRun, run, type Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { makeSmallRoot } from '../machine/small-root.ts';

/** Debian's own dkms builds and installs, with a compiler; then Kiln takes over. */
const DKMS = String.raw`
set -e
mkdir -p /usr/lib/dkms
ln -s "$3" "/lib/modules/$2/build"
dkms add "$1"
dkms install "$1" -k "$2"
rm -f "/lib/modules/$2/build"
dkms status
`;

/** Where DKMS keeps its modules, and what a drop-in of framework.conf says of that. */
const LAYOUTS = [
  { where: 'where it usually does', tree: '/var/lib/dkms', conf: '' },
  {
    where: 'elsewhere by a drop-in, as links',
    tree: '/srv/dkms',
    conf: 'dkms_tree="/srv/dkms" # moved\nsymlink_modules="yes"\nmodprobe_on_install=""\n',
  },
];

describe.each(LAYOUTS)('a host whose modules DKMS has $where', ({ tree, conf }) => {
  const kiln = sharedKiln();
  const { release } = kiln;
  let root: string;
  let home: string;
  let dkmsSaid: string;

  const onRoot = (...args: string[]): Promise<Ran> =>
    run(CLIENT, [...args, '--root', root, '--run-programs-of-root', '-q'], {
      env: {
        ...process.env,
        KILN_SERVER: kiln.url,
        KILN_TOKEN_FILE: join(kiln.data, 'admin.token'),
        KILN_CONFIG: join(kiln.data, 'import.config'),
      },
    });

  beforeAll(async () => {
    root = await makeSmallRoot(release);
    home = join(root, 'lib/modules', release);
    await mkdir(join(root, 'usr/src'), { recursive: true });
    await mkdir(join(root, tree), { recursive: true });
    await cp(kiln.source, join(root, 'usr/src/v4l2loopback-0.12.7'), { recursive: true });
    await kiln.json('build', 'v4l2loopback', '-k', kiln.kernel);
    const image = await connectDocker('/var/run/docker.sock').findImage(kiln.toolchain as Digest);
    const dkms = await unpackPackages('dkms', ['dkms']);
    await mkdir(join(root, 'etc'), { recursive: true });
    await cp(join(dkms, 'etc/dkms'), join(root, 'etc/dkms'), { recursive: true });
    await mkdir(join(root, 'etc/dkms/framework.conf.d'), { recursive: true });
    await writeFile(join(root, 'etc/dkms/framework.conf.d/moved.conf'), conf);
    const mounts = [
      `${home}:/lib/modules/${release}`,
      `${join(root, tree)}:${tree}`,
      `${join(root, 'usr/src/v4l2loopback-0.12.7')}:/usr/src/v4l2loopback-0.12.7:ro`,
      `${join(dkms, 'usr/sbin/dkms')}:/usr/sbin/dkms:ro`,
      `${join(root, 'etc/dkms')}:/etc/dkms:ro`,
    ];
    for (const parent of ['usr/src', 'usr/lib'])
      for (const name of await readdir(join(kiln.headers, parent)).catch(() => []))
        mounts.push(`${join(kiln.headers, parent, name)}:/${parent}/${name}:ro`);
    dkmsSaid = await mustRun('docker', [
      'run',
      '--rm',
      '--network=none',
      ...mounts.map((mount) => `--volume=${mount}`),
      image ?? '',
      'bash',
      '-c',
      DKMS,
      'dkms',
      'v4l2loopback/0.12.7',
      release,
      await readlink(join(kiln.headers, 'lib/modules', release, 'build')),
    ]);
    expect(
      await mustRun(
        CLIENT,
        ['setup', kiln.url, '--trust-first-use', '--token-file', join(kiln.data, 'admin.token')],
        {
          env: { ...process.env, KILN_CONFIG: join(kiln.data, 'import.config') },
        },
      ),
    ).toMatch(/pinned/);
  });

  const dkmsFile = (): string => join(home, 'updates/dkms/v4l2loopback.ko');
  const isThere = (path: string): Promise<boolean> =>
    lstat(path).then(
      () => true,
      () => false,
    );

  it('has them installed by DKMS', async () => {
    expect(dkmsSaid).toMatch(/v4l2loopback\/0\.12\.7, .*installed/);
    expect(await isThere(dkmsFile())).toBe(true);
    const built = join(tree, 'v4l2loopback/0.12.7', release, 'x86_64/module/v4l2loopback.ko');
    expect(await readlink(dkmsFile()).catch(() => '')).toBe(conf === '' ? '' : built);
  });

  it('is told what would be taken over, and nothing is done', async () => {
    const { status, stdout } = await onRoot('import-dkms', '--dry-run');
    expect([status, stdout]).toEqual([0, expect.stringMatching(/would be taken over/)]);
    expect(await isThere(dkmsFile())).toBe(true);
    expect((await onRoot('status', '--offline')).stdout).toMatch(/nothing is installed/);
  });

  it('keeps DKMS’s where Kiln’s cannot be had', async () => {
    const { status, stderr, stdout } = await onRoot(
      'import-dkms',
      '--server',
      'http://127.0.0.1:1',
      '--patience',
      '0',
    );
    expect([status, stdout + stderr]).toEqual([5, expect.stringMatching(/127\.0\.0\.1:1/)]);
    expect(await isThere(dkmsFile())).toBe(true);
    expect(await isThere(join(root, tree, 'v4l2loopback/0.12.7'))).toBe(true);
  });

  it('has Kiln’s afterwards, the same source, and nothing of DKMS’s', async () => {
    expect(await onRoot('import-dkms')).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/v4l2loopback\/0\.12\.7 .*taken over/),
      stderr: '',
    });
    expect(await isThere(dkmsFile())).toBe(false);
    expect(await isThere(join(root, tree, 'v4l2loopback/0.12.7', release))).toBe(false);
    expect(
      await mustRun('modinfo', ['-b', root, '-k', release, '-F', 'filename', 'v4l2loopback']),
    ).toMatch(/updates\/kiln\/v4l2loopback\.ko/);
    expect((await onRoot('verify')).status).toBe(0);
    expect((await onRoot('status')).stdout).toMatch(/v4l2loopback\/0\.12\.7 +installed +signed/);
  });

  it('does not get DKMS’s back when Kiln’s are removed', async () => {
    expect((await onRoot('remove', 'v4l2loopback')).status).toBe(0);
    expect(await isThere(dkmsFile())).toBe(false);
    expect(await isThere(join(home, 'updates'))).toBe(false);
  });
});
