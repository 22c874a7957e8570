import { mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { bootLoaderOf } from '../../client/host/boot-loader.ts';
import type { Context } from '../../client/command.ts';
import { readConfig } from '../../client/config.ts';
import { guard } from '../../client/commands/guard.ts';
import { openHost, type Host } from '../../client/host/host.ts';
import { keepDefault } from '../../client/installed/boot-guard.ts';
import { compareReleases } from '../../services/core/kernel/boot-choice.ts';
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
    host = await openHost(root, true);
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

  /** What grub-mkconfig made of settings, so that each is made once. */
  const made = new Map<string, string>();
  const makeConfig = async (settings: string): Promise<void> => {
    await writeFile(join(root, 'etc/default/grub'), `GRUB_DISTRIBUTOR=Debian\n${settings}\n`);
    const config = join(root, 'boot/grub/grub.cfg');
    const text = made.get(settings);
    if (text !== undefined) return writeFile(config, text);
    await mustRun('unshare', ['--mount', 'sh', '-c', MAKE_CONFIG, 'sh', root]);
    made.set(settings, await readFile(config, 'utf8'));
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
    expect(await runGuard({}, ['undo'])).toContain('starts its former default again');
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
    const bare = await openHost(await freshDirectory('no-loader'), true);
    await expect(runGuard({}, [], bare)).rejects.toEqual(
      refusal('not-found', /neither GRUB nor systemd-boot/),
    );
    expect(await runGuard({}, ['hook', 'wanted'], bare)).toMatch(
      /^kiln guard did nothing: neither GRUB/,
    );
    expect(await runGuard({}, ['hook'], bare)).toBe('');
  });
});

/** Lays down entries of the Boot Loader Specification, as kernel-install does. */
const putEntries = async (directory: string, token: string): Promise<void> => {
  await mkdir(directory, { recursive: true });
  for (const release of [OLDER, NEWER])
    await writeFile(
      join(directory, `${token}-${release}.conf`),
      `title Linux\nversion ${release}\nlinux /vmlinuz-${release}\n`,
    );
};

describe('GRUB as Fedora, Enterprise Linux and openSUSE call it', () => {
  let root: string;
  let host: Host;
  const put = async (path: string, text: string): Promise<void> => {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), text);
  };
  const saved = async (): Promise<string> =>
    (await mustRun('chroot', [root, 'grub2-editenv', '/boot/grub2/grubenv', 'list'])).trim();

  beforeAll(async () => {
    root = await copyRoot('initramfs-tools', [
      'initramfs-tools',
      'grub-common',
      'kmod',
      'xz-utils',
    ]);
    host = await openHost(root, true);
    // Debian's own program, under the name that others give it.
    await symlink('grub-editenv', join(root, 'usr/bin/grub2-editenv'));
    await mkdir(join(root, 'boot/grub2'), { recursive: true });
    await rm(join(root, 'boot/grub'), { recursive: true, force: true });
    for (const release of [OLDER, NEWER])
      await mkdir(join(root, 'lib/modules', release, 'kernel'), { recursive: true });
  });
  afterAll(() => rm(dirname(root), { recursive: true, force: true }));

  it('is set to an entry of Fedora’s /boot/loader, and back to what its own hook had saved', async () => {
    const token = '0123456789abcdef0123456789abcdef';
    await putEntries(join(root, 'boot/loader/entries'), token);
    await put(
      'boot/grub2/grub.cfg',
      'if [ "${next_entry}" ] ; then\n   set default="${next_entry}"\nelse\n   set default="${saved_entry}"\nfi\ninsmod blscfg\nblscfg\n',
    );
    // kernel-install's 20-grub.install saves each new kernel; what grub2-reboot leaves would come back at the next start.
    const set = ['set', `saved_entry=${token}-${NEWER}`, 'prev_saved_entry=other'];
    await mustRun('chroot', [root, 'grub2-editenv', '/boot/grub2/grubenv', ...set]);
    const held = await keepDefault(host, async () => new Map([[NEWER, 'zfs failed']]));
    expect(held).toMatchObject({ loader: 'GRUB', release: OLDER, instead: NEWER, isSet: true });
    expect(await saved()).toBe(`saved_entry=${token}-${OLDER}`);
    expect(await keepDefault(host, async () => new Map())).toMatchObject({
      release: NEWER,
      isSet: true,
    });
    expect(await saved()).toBe(`saved_entry=${token}-${NEWER}`);
    expect((await keepDefault(host, async () => new Map())).isSet).toBe(false);
  });

  it('is set to an entry of openSUSE’s submenu, and back to the newest', async () => {
    const id = (release: string): string => `gnulinux-${release}-advanced-1234-abcd`;
    const entry = (release: string): string =>
      `\tmenuentry 'openSUSE Leap 15.6, with Linux ${release}'  --hotkey=1 --class opensuse $menuentry_id_option '${id(release)}' {\n\t}\n`;
    await put(
      'boot/grub2/grub.cfg',
      `   set default="\${saved_entry}"\nmenuentry 'openSUSE Leap 15.6'  --class opensuse $menuentry_id_option 'gnulinux-simple-1234-abcd' {\n}\nsubmenu 'Advanced options for openSUSE Leap 15.6' --hotkey=1 $menuentry_id_option 'gnulinux-advanced-1234-abcd' {\n${entry(NEWER)}${entry(OLDER)}}\n`,
    );
    await mustRun('chroot', [root, 'grub2-editenv', '/boot/grub2/grubenv', 'create']);
    await keepDefault(host, async () => new Map([[NEWER, 'zfs failed']]));
    expect(await saved()).toBe(`saved_entry=gnulinux-advanced-1234-abcd>${id(OLDER)}`);
    await keepDefault(host, async () => new Map());
    expect(await saved()).toBe('');
  });
});

describe('systemd-boot', () => {
  const GUID = '4a67b082-0a4c-41cf-b6c7-440b29bb8c4f';
  let root: string;
  let host: Host;
  const variable = async (): Promise<string | null> =>
    readFile(join(root, 'sys/firmware/efi/efivars', `LoaderEntryDefault-${GUID}`)).then(
      (bytes) => bytes.subarray(4).toString('utf16le').replaceAll('\0', ''),
      () => null,
    );

  beforeAll(async () => {
    root = await copyRoot('dracut', ['dracut', 'kmod']);
    host = await openHost(root, true);
    const packages = ['systemd-boot', 'libsystemd-shared', 'libip4tc2'];
    const unpacked = await unpackPackages('bootctl', packages);
    for (const part of ['usr/bin', 'usr/lib', 'lib'])
      await mustRun('cp', ['-a', join(unpacked, part), join(root, 'usr')]);
    for (const release of [OLDER, NEWER])
      await mkdir(join(root, 'lib/modules', release, 'kernel'), { recursive: true });
  });
  afterAll(() => rm(dirname(root), { recursive: true, force: true }));
  beforeEach(async () => {
    for (const path of ['boot/loader', 'efi', 'var/lib/kiln'])
      await rm(join(root, path), { recursive: true, force: true });
    // What systemd-boot leaves the system it has started.
    const variables = join(root, 'sys/firmware/efi/efivars');
    await rm(variables, { recursive: true, force: true });
    await mkdir(variables, { recursive: true });
    await writeFile(
      join(variables, `LoaderInfo-${GUID}`),
      Buffer.from('\x06\0\0\0s\0\0\0', 'latin1'),
    );
  });
  const incomplete = async (): Promise<Map<string, string>> => new Map([[NEWER, 'zfs failed']]);
  const none = async (): Promise<Map<string, string>> => new Map();

  it('has its default set and set back by bootctl, whose words against it are told', async () => {
    await putEntries(join(root, 'efi/loader/entries'), 'debian');
    expect((await keepDefault(host, none)).isSet).toBe(false);
    await keepDefault(host, incomplete);
    expect(await variable()).toBe(`debian-${OLDER}.conf`);
    await keepDefault(host, none);
    expect(await variable()).toBeNull();
    await rm(join(root, 'sys/firmware/efi'), { recursive: true });
    await expect(keepDefault(host, incomplete)).rejects.toEqual(
      refusal('install-failed', /bootctl failed \(Not booted with UEFI\.\)/),
    );
  });

  it('has entries with a count of tries, and kernels with all within, by the names it knows them by', async () => {
    const entries = join(root, 'efi/loader/entries');
    await putEntries(entries, 'debian');
    await rename(join(entries, `debian-${OLDER}.conf`), join(entries, `debian-${OLDER}+2-1.conf`));
    await keepDefault(host, incomplete);
    expect(await variable()).toBe(`debian-${OLDER}.conf`);
    await keepDefault(host, none);
    await rm(entries, { recursive: true });
    await mkdir(join(root, 'efi/EFI/Linux'), { recursive: true });
    for (const release of [`${OLDER}+3`, NEWER])
      await writeFile(join(root, `efi/EFI/Linux/my-token-${release}.efi`), '');
    await keepDefault(host, incomplete);
    expect(await variable()).toBe(`my-token-${OLDER}.efi`);
  });

  it('starts what loader.conf says where nothing is set, and that is let be where it is complete', async () => {
    await putEntries(join(root, 'boot/loader/entries'), 'debian');
    await writeFile(join(root, 'boot/loader/loader.conf'), `timeout 3\ndefault debian-${OLDER}*\n`);
    expect(await keepDefault(host, incomplete)).toMatchObject({ release: OLDER, isSet: false });
    await writeFile(join(root, 'boot/loader/loader.conf'), 'default debian-*\n');
    expect(await keepDefault(host, incomplete)).toMatchObject({ release: OLDER, isSet: true });
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
    const relations = ['lt', 'eq', 'gt'];
    const ours = releases.flatMap((a) =>
      releases.map((b) => `${a} ${relations[Math.sign(compareReleases(a, b)) + 1] ?? ''} ${b}`),
    );
    // A revision of its own keeps the release's dashes in the version.
    const script = `
      for a; do for b; do for relation in ${relations.join(' ')}; do
        if dpkg --compare-versions "$a-1" $relation "$b-1"; then echo "$a $relation $b"; fi
      done; done; done`;
    const dpkgs = await mustRun('sh', ['-euc', script, 'sh', ...releases]);
    expect(ours).toEqual(dpkgs.trim().split('\n'));
  });
});
