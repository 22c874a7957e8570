import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { bootLoaderOf } from '../../client/host/boot-loader.ts';
import type { Context } from '../../client/command.ts';
import { readConfig } from '../../client/config.ts';
import { guard } from '../../client/commands/guard.ts';
import { openHost, type Host } from '../../client/host/host.ts';
import { compareReleases } from '../../services/core/boot-choice.ts';
import { copyRoot } from '../machine/debian-root.ts';
import { unpackPackages } from '../machine/debian.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { mustRun, run } from '../machine/run.ts';
import { refusal } from '../unit/samples.ts';

const [OLDER, NEWER] = ['6.1.0-9-amd64', '6.1.0-56-amd64'];

/** Runs Debian's grub-mkconfig in a root: `/` must be a mount there for it to find its device. */
const MAKE_CONFIG = String.raw`
root=$1
mount --bind "$root" "$root" && mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev" &&
  exec chroot "$root" grub-mkconfig -o /boot/grub/grub.cfg
`;

describe('kiln guard', () => {
  let root: string;
  let host: Host;

  beforeAll(async () => {
    root = await copyRoot('initramfs-tools', [
      'initramfs-tools',
      'grub-common',
      'kmod',
      'xz-utils',
    ]);
    host = await openHost(root);
    await mustRun('cp', [
      '-a',
      `${await unpackPackages('grub2-common', ['grub2-common'])}/.`,
      root,
    ]);
    await mkdir(join(root, 'boot/grub'), { recursive: true });
    for (const release of [OLDER, NEWER]) {
      await mkdir(join(root, 'lib/modules', release, 'kernel'), { recursive: true });
      await writeFile(join(root, `boot/vmlinuz-${release}`), 'kernel');
      await writeFile(join(root, `boot/initrd.img-${release}`), 'initramfs');
    }
  });

  afterAll(() => rm(dirname(root), { recursive: true, force: true }));

  const makeConfig = async (settings: string): Promise<void> => {
    await writeFile(join(root, 'etc/default/grub'), `GRUB_DISTRIBUTOR=Debian\n${settings}\n`);
    await mustRun('unshare', ['--mount', 'sh', '-c', MAKE_CONFIG, 'sh', root]);
  };

  beforeEach(async () => {
    await rm(join(root, 'boot/grub/grubenv'), { force: true });
    await rm(join(root, 'var/lib/kiln'), { recursive: true, force: true });
    await makeConfig('GRUB_DEFAULT=saved');
  });

  /** The command with kernels that are not complete; what it prints. */
  const runGuard = async (
    incomplete: Readonly<Record<string, string>>,
    flags: readonly string[] = [],
    on: Host = host,
  ): Promise<string> => {
    const said: string[] = [];
    const context: Pick<Context, 'config' | 'flag' | 'host' | 'print'> = {
      config: { ...readConfig({}), guard: flags.includes('wanted') },
      flag: (name) => flags.includes(name),
      host: async () => on,
      print: (text) => void said.push(text),
    };
    await guard(async () => new Map(Object.entries(incomplete))).run(context as Context);
    return said.join('\n');
  };

  const saved = async (): Promise<string> => {
    const { stdout } = await run('chroot', [root, 'grub-editenv', '/boot/grub/grubenv', 'list']);
    return stdout.trim();
  };

  it('finds the entries that grub-mkconfig wrote', async () => {
    const loader = await bootLoaderOf(host);
    expect(loader).toMatchObject({ name: 'GRUB', current: null, problem: null });
    expect([...(loader?.entries ?? [])]).toEqual([
      [NEWER, expect.stringMatching(/^gnulinux-advanced-.+>gnulinux-6\.1\.0-56-amd64-advanced-/)],
      [OLDER, expect.stringMatching(/^gnulinux-advanced-.+>gnulinux-6\.1\.0-9-amd64-advanced-/)],
    ]);
  });

  it('keeps the last complete kernel, says why, and sets back once all is there', async () => {
    expect(await runGuard({})).toBe(`GRUB starts ${NEWER}, which has all its modules`);
    expect(await saved()).toBe('');
    const first = await runGuard({ [NEWER]: 'zfs failed' });
    expect(first).toContain(`GRUB starts ${OLDER} by default, not ${NEWER}: zfs failed`);
    const entry = (await bootLoaderOf(host))?.entries.get(OLDER) ?? '';
    expect(await saved()).toBe(`saved_entry=${entry}`);
    expect(await runGuard({ [NEWER]: 'zfs failed' })).toBe(first);
    await runGuard({});
    expect(await saved()).toBe('');
    await expect(readFile(join(root, 'var/lib/kiln/guard.json'))).rejects.toThrow(/ENOENT/);
  });

  it('sets back what the admin had chosen, also by hand', async () => {
    const title = `Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux ${NEWER}`;
    await mustRun('chroot', [root, 'grub-set-default', title]);
    await runGuard({ [NEWER]: 'zfs failed' });
    expect(await saved()).toContain(`gnulinux-${OLDER}-advanced`);
    expect(await runGuard({}, ['undo'])).toContain('starts again what it did');
    expect(await saved()).toBe(`saved_entry=${title}`);
    expect(await runGuard({}, ['undo'])).toBe('guard has set nothing');
  });

  it('leaves alone what somebody has chosen since', async () => {
    await runGuard({ [NEWER]: 'zfs failed' });
    await mustRun('chroot', [root, 'grub-set-default', '0']);
    await runGuard({});
    expect(await saved()).toBe('saved_entry=0');
  });

  it('leaves a chosen kernel that is complete', async () => {
    const entry = (await bootLoaderOf(host))?.entries.get(OLDER) ?? '';
    await mustRun('chroot', [root, 'grub-set-default', entry]);
    expect(await runGuard({ [NEWER]: 'zfs failed' })).toBe(
      `GRUB starts ${OLDER}, which has all its modules`,
    );
  });

  it('says what to do where GRUB does not look at what is saved', async () => {
    await makeConfig('GRUB_DEFAULT=0');
    await expect(runGuard({ [NEWER]: 'zfs failed' })).rejects.toEqual(
      refusal('install-failed', /zfs failed.*set GRUB_DEFAULT=saved .*run update-grub/),
    );
    expect(await saved()).toBe('');
  });

  it('finds entries without a submenu', async () => {
    await makeConfig('GRUB_DEFAULT=saved\nGRUB_DISABLE_SUBMENU=y');
    expect((await bootLoaderOf(host))?.entries.get(OLDER)).toMatch(/^gnulinux-6\.1\.0-9-amd64-/);
  });

  it('changes nothing where no kernel is complete', async () => {
    await expect(runGuard({ [NEWER]: 'zfs failed', [OLDER]: 'zfs failed' })).rejects.toEqual(
      refusal('install-failed', /no kernel here has all its modules/),
    );
    expect(await saved()).toBe('');
  });

  it('never fails as a hook, and says when there is no boot loader', async () => {
    const bare = await openHost(await freshDirectory('no-loader'));
    await expect(runGuard({}, [], bare)).rejects.toEqual(
      refusal('not-found', /neither GRUB nor systemd-boot/),
    );
    expect(await runGuard({}, ['hook', 'wanted'], bare)).toMatch(
      /^kiln guard did nothing: neither GRUB/,
    );
    expect(await runGuard({}, ['hook'], bare)).toBe('');
  });
});

describe('systemd-boot', () => {
  it('has its entries read, and what bootctl says against a default told', async () => {
    const root = await copyRoot('dracut', ['dracut', 'kmod']);
    const packages = ['systemd-boot', 'libsystemd-shared', 'libip4tc2'];
    const unpacked = await unpackPackages('bootctl', packages);
    for (const part of ['usr/bin', 'usr/lib', 'lib'])
      await mustRun('cp', ['-a', join(unpacked, part), join(root, 'usr')]);
    const entries = join(root, 'boot/loader/entries');
    await mkdir(entries, { recursive: true });
    await writeFile(join(entries, `abc-${OLDER}.conf`), `title Debian\nversion ${OLDER}\n`);
    const loader = await bootLoaderOf(await openHost(root));
    expect(loader).toMatchObject({ name: 'systemd-boot', current: null });
    expect([...(loader?.entries ?? [])]).toEqual([[OLDER, `abc-${OLDER}.conf`]]);
    await expect(loader?.setDefault(`abc-${OLDER}.conf`)).rejects.toEqual(
      refusal('install-failed', /bootctl failed \(Not booted with UEFI\.\)/),
    );
    await rm(dirname(root), { recursive: true, force: true });
  });
});

describe('releases', () => {
  const releases = [
    OLDER,
    NEWER,
    '6.1.0-56-cloud-amd64',
    '6.1.0-56-rt-amd64',
    '6.12.9+deb12-amd64',
    '6.12.117+deb12-amd64',
    '6.13~rc1-amd64',
    '6.13-amd64',
    '6.13.0-0.bpo.1-amd64',
    '6.013-amd64',
    '5.14.0-427.13.1.el9_4.x86_64',
  ];

  it('are ordered as dpkg orders versions', async () => {
    for (const a of releases) {
      for (const b of releases) {
        const answers = await Promise.all(
          ['lt', 'eq', 'gt'].map(async (relation) => {
            // A revision of its own keeps the release's dashes in the version.
            const args = ['--compare-versions', `${a}-1`, relation, `${b}-1`];
            return (await run('dpkg', args)).status === 0;
          }),
        );
        expect([a, b, Math.sign(compareReleases(a, b))]).toEqual([a, b, answers.indexOf(true) - 1]);
      }
    }
  });
});
