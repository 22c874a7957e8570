import { copyFile, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { dkmsSources, removeFromDkms, type DkmsSource } from '../../client/host/dkms-host.ts';
import { openHost, type Host } from '../../client/host/host.ts';
import { copyRoot, mustRunIn } from '../machine/debian-root.ts';
import { debianKernel, newestRelease, unpackPackages } from '../machine/debian.ts';
import { mustRun } from '../machine/run.ts';
import { refusal } from '../unit/samples.ts';

/** The source is called as a module of the kernel's own, which can stand for what a build would leave. */
const CONF = `PACKAGE_NAME=dummy
PACKAGE_VERSION=1.0
BUILT_MODULE_NAME[0]=dummy
DEST_MODULE_LOCATION[0]=/kernel/drivers/net
AUTOINSTALL=yes
`;
const IN_TREE = 'kernel/drivers/net/dummy.ko';

const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

describe('what DKMS has on a host', () => {
  let root: string;
  let host: Host;
  let release: string;
  let home: string;

  beforeAll(async () => {
    release = await newestRelease();
    root = await copyRoot('initramfs-tools', [
      'initramfs-tools',
      'grub-common',
      'kmod',
      'xz-utils',
    ]);
    host = await openHost(root, true);
    home = join(root, 'lib/modules', release);
    await mustRun('cp', ['-a', `${await unpackPackages('dkms', ['dkms'])}/.`, root]);
  });

  afterAll(() => rm(dirname(root), { recursive: true, force: true }));

  /** Adds the source with the root's own dkms, as one distribution or another; lays down what a build leaves; installs it. */
  const addDkms = async (distribution: string, isInstalled: boolean): Promise<void> => {
    await rm(join(root, 'var/lib/dkms/dummy'), { recursive: true, force: true });
    await rm(home, { recursive: true, force: true });
    const kernel = join(await debianKernel(release), 'lib/modules', release);
    await mkdir(dirname(join(home, IN_TREE)), { recursive: true });
    for (const path of [IN_TREE, 'modules.order', 'modules.builtin'])
      await copyFile(join(kernel, path), join(home, path));
    await mustRunIn(root, 'depmod', release);
    await rm(join(root, 'etc/os-release'), { force: true });
    await writeFile(join(root, 'etc/os-release'), `ID=${distribution}\nVERSION_ID=12\n`);
    await mkdir(join(root, 'usr/src/dummy-1.0'), { recursive: true });
    await writeFile(join(root, 'usr/src/dummy-1.0/dkms.conf'), CONF);
    await mustRunIn(root, 'dkms', 'add', 'dummy/1.0');
    const built = join(root, 'var/lib/dkms/dummy/1.0', release, 'x86_64/module');
    await mkdir(built, { recursive: true });
    await copyFile(join(kernel, IN_TREE), join(built, 'dummy.ko'));
    if (isInstalled)
      await mustRunIn(root, 'dkms', 'install', 'dummy/1.0', '-k', release, '--force');
  };

  const onlySource = async (): Promise<DkmsSource> => {
    const [source, ...others] = await dkmsSources(host);
    if (source === undefined || others.length > 0) throw new Error('not one source');
    return source;
  };

  const remove = async (): Promise<void> => {
    const source = await onlySource();
    const [kernel] = source.kernels;
    if (kernel === undefined) throw new Error('no kernel');
    await removeFromDkms(host, source, kernel);
  };

  const withoutDkms = async (work: () => Promise<void>): Promise<void> => {
    const dkms = join(root, 'usr/sbin/dkms');
    await rename(dkms, `${dkms}.kept`);
    try {
      await work();
    } finally {
      await rename(`${dkms}.kept`, dkms);
    }
  };

  it.each([true, false])('is what dkms status says of it (installed: %p)', async (isInstalled) => {
    await addDkms('debian', isInstalled);
    const status = await mustRunIn(root, 'dkms', 'status');
    const word = isInstalled ? 'installed' : 'built';
    expect(status).toContain(`dummy/1.0, ${release}, x86_64: ${word}`);
    expect(await dkmsSources(host)).toEqual([
      {
        name: 'dummy',
        version: '1.0',
        directory: join(root, 'usr/src/dummy-1.0'),
        kernels: [{ release, arch: 'x86_64', isInstalled, files: ['dummy.ko'], originals: [] }],
        layout: { tree: '/var/lib/dkms', installTree: '/lib/modules', loads: false },
      },
    ]);
  });

  describe.each(['with', 'without'])('removed %s dkms', (how) => {
    const inPlace = (work: () => Promise<void>): Promise<void> =>
      how === 'with' ? work() : withoutDkms(work);

    beforeEach(() => addDkms('debian', true));

    it('leaves nothing of DKMS’s, and the kernel’s own and Kiln’s as they are', async () => {
      const copy = join(home, 'updates/dkms/dummy.ko');
      const ours = join(home, 'updates/kiln/dummy.ko');
      await mkdir(dirname(ours));
      await copyFile(copy, ours);
      await inPlace(remove);
      expect(await Promise.all([copy, ours, join(home, IN_TREE)].map(isThere))).toEqual([
        false,
        true,
        true,
      ]);
      expect(await isThere(join(root, 'var/lib/dkms/dummy'))).toBe(false);
      expect(await isThere(join(root, 'usr/src/dummy-1.0/dkms.conf'))).toBe(true);
      expect(await dkmsSources(host)).toEqual([]);
      expect(await mustRunIn(root, 'dkms', 'status')).toBe('');
      expect(await readFile(join(home, 'modules.dep'), 'utf8')).toContain('updates/kiln/dummy.ko');
    });
  });

  it('stays where the copy is not what DKMS built and no dkms is there', async () => {
    await addDkms('debian', true);
    await writeFile(join(home, 'updates/dkms/dummy.ko'), 'another');
    await withoutDkms(async () => {
      await expect(remove()).rejects.toEqual(
        refusal('install-failed', /updates\/dkms\/dummy.ko is not what DKMS built for dummy\/1.0/),
      );
    });
    expect((await onlySource()).kernels).toHaveLength(1);
  });

  it('gives the kernel’s own module back where DKMS has put it aside, by dkms alone', async () => {
    await addDkms('fedora', true);
    const own = join(home, IN_TREE);
    expect(await isThere(own)).toBe(false);
    expect((await onlySource()).kernels[0]?.originals).toEqual(['dummy.ko']);
    await withoutDkms(async () => {
      await expect(remove()).rejects.toEqual(
        refusal('install-failed', /put the kernel’s own dummy.ko aside.*install dkms/),
      );
    });
    expect(await isThere(join(home, 'extra/dummy.ko'))).toBe(true);
    await remove();
    expect(await Promise.all([own, join(home, 'extra/dummy.ko')].map(isThere))).toEqual([
      true,
      false,
    ]);
  });

  it('is nothing where there is no DKMS', async () => {
    await rm(join(root, 'var/lib/dkms'), { recursive: true });
    expect(await dkmsSources(host)).toEqual([]);
    await mkdir(join(root, 'var/lib/dkms'));
  });
});
