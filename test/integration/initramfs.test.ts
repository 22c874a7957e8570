import { chmod, copyFile, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { openHost, type Host } from '../../client/host/host.ts';
import { initramfsOf, refreshInitramfs } from '../../client/host/initramfs.ts';
import { copyRoot, mustRunIn } from '../machine/debian-root.ts';
import { debianKernel, newestRelease } from '../machine/debian.ts';
import { freshDirectory, writeTree } from '../machine/make-source.ts';
import { refusal } from '../unit/samples.ts';

const MODULES = ['kernel/drivers/net/dummy.ko', 'kernel/drivers/net/team/team_mode_random.ko'];
/** How each tool is asked for an image, is told to put a module in, and is broken. */
const TOOLS = [
  {
    label: 'initramfs-tools',
    packages: ['initramfs-tools', 'grub-common', 'kmod', 'xz-utils'],
    tool: 'update-initramfs',
    image: (release: string) => `/boot/initrd.img-${release}`,
    make: (release: string) => ['update-initramfs', '-c', '-k', release],
    settings: 'etc/initramfs-tools/modules',
    naming: '# mine\nteam-mode-random\n',
    breaker: 'etc/initramfs-tools/hooks/broken',
    broken: '#!/bin/sh\necho "W: never mind" >&2\necho "cannot copy it" >&2\nexit 1\n',
    words:
      /update-initramfs failed for .* \(E: .*hooks\/broken failed with return 1\.\); .* update-initramfs -u -k 6/,
  },
  {
    label: 'dracut',
    packages: ['dracut', 'kmod'],
    tool: 'dracut',
    image: (release: string) => `/boot/initramfs-${release}.img`,
    make: (release: string) => ['dracut', `/boot/initramfs-${release}.img`, release],
    settings: 'etc/dracut.conf.d/mine.conf',
    naming: '# mine\nadd_drivers+=" team-mode-random "\n',
    breaker: 'etc/dracut.conf.d/broken.conf',
    broken: 'tmpdir="/no-such-place"\n',
    words: /dracut failed for .* \(.*no-such-place.*\); .* dracut --force \/boot\/initramfs-6/,
  },
] as const;

describe.each(TOOLS)('an initramfs made by $tool', (one) => {
  let root: string;
  let host: Host;
  let release: string;

  beforeAll(async () => {
    release = await newestRelease();
    root = await copyRoot(one.label, one.packages);
    host = await openHost(root, true);
    const kernel = join(await debianKernel(release), 'lib/modules', release);
    for (const path of [...MODULES, 'modules.order', 'modules.builtin']) {
      const place = join(root, 'lib/modules', release, path);
      await mkdir(dirname(place), { recursive: true });
      await copyFile(join(kernel, path), place);
    }
    const config = `boot/config-${release}`;
    await copyFile(join(await debianKernel(release), config), join(root, config));
    await mustRunIn(root, 'depmod', release);
  });

  const refresh = (): Promise<void> =>
    refreshInitramfs(host, release, { tool: one.tool, path: one.image(release) });

  afterAll(() => rm(dirname(root), { recursive: true, force: true }));

  it('is none before there is an image', async () => {
    const initramfs = await initramfsOf(host, release);
    expect(initramfs).toEqual({ tool: one.tool, images: [] });
  });

  it('holds what is in it, and what the settings name', async () => {
    const [program = '', ...args] = one.make(release);
    await mustRunIn(root, program, ...args);
    const names = ['team-mode_random'];
    const { images } = await initramfsOf(host, release);
    expect(images).toMatchObject([{ path: one.image(release), byHand: null }]);
    const holds = async (): Promise<boolean | undefined> =>
      (await initramfsOf(host, release)).images[0]?.holds(names);
    const before = await holds();
    await mkdir(dirname(join(root, one.settings)), { recursive: true });
    const settings = await readFile(join(root, one.settings)).catch(() => null);
    await writeFile(join(root, one.settings), one.naming);
    const named = await holds();
    await refresh();
    await rm(join(root, one.settings));
    if (settings !== null) await writeFile(join(root, one.settings), settings);
    const held = await holds();
    await refresh();
    expect([before, named, held, await holds()]).toEqual([false, true, true, false]);
  });

  it('stays as it was when the tool fails, with its own first error', async () => {
    const image = join(root, one.image(release));
    const before = await readFile(image);
    await writeFile(join(root, one.breaker), one.broken);
    await chmod(join(root, one.breaker), 0o755);
    await expect(refresh()).rejects.toEqual(refusal('install-failed', one.words));
    expect((await readFile(image)).equals(before)).toBe(true);
    await rm(join(root, one.breaker));
  });

  it('that cannot be listed is taken to hold all', async () => {
    await writeFile(join(root, one.image(release)), 'no image');
    const [image] = (await initramfsOf(host, release)).images;
    expect(await image?.holds(['team_mode_random'])).toBe(true);
  });
});

describe('images that the host’s tool does not make', () => {
  const release = '6.1.0-1-amd64';
  const hostWith = async (files: Readonly<Record<string, string>>): Promise<Host> =>
    openHost(await writeTree('images', files), true);
  const byHand = async (host: Host): Promise<Readonly<Record<string, string | null>>> => {
    const { images } = await initramfsOf(host, release);
    return Object.fromEntries(images.map((image) => [image.path, image.byHand]));
  };
  const program = async (host: Host, name: string): Promise<void> => {
    await mkdir(join(host.root, 'usr/bin'), { recursive: true });
    await writeFile(join(host.root, 'usr/bin', name), '', { mode: 0o755 });
  };

  it('are named with kernel-install, and only those of this kernel', async () => {
    const host = await hostWith({
      [`lib/modules/${release}/vmlinuz`]: '',
      [`efi/EFI/Linux/debian-${release}.efi`]: '',
      [`efi/EFI/Linux/linux-${release}-${'a'.repeat(32)}.efi`]: '',
      [`efi/EFI/Linux/debian-${release.replace('-1-', '-11-')}.efi`]: '',
      [`efi/EFI/Linux/debian-${release}-rt.efi`]: '',
      [`boot/efi/debian/${release}/initrd.img-${release}`]: '',
      [`boot/efi/debian/${release}/linux`]: '',
    });
    await program(host, 'kernel-install');
    const command = `kernel-install add ${release} /lib/modules/${release}/vmlinuz`;
    expect(await byHand(host)).toEqual({
      [`/efi/EFI/Linux/debian-${release}.efi`]: command,
      [`/efi/EFI/Linux/linux-${release}-${'a'.repeat(32)}.efi`]: command,
      [`/boot/efi/debian/${release}/initrd.img-${release}`]: command,
    });
  });

  it('are none where update-initramfs has a hook that copies them, and a copy has one name', async () => {
    const copy = `boot/efi/token/${release}/initrd.img-${release}`;
    const host = await hostWith({ [`boot/initrd.img-${release}`]: '', [copy]: '' });
    await program(host, 'update-initramfs');
    await symlink('boot/efi', join(host.root, 'efi'));
    expect(await byHand(host)).toEqual({
      [`/boot/initrd.img-${release}`]: null,
      [`/${copy.replace('boot/', '')}`]: `the program that made it, for kernel ${release}`,
    });
    await mkdir(join(host.root, 'etc/initramfs/post-update.d'), { recursive: true });
    await writeFile(join(host.root, 'etc/initramfs/post-update.d/systemd-boot'), '');
    expect(Object.values(await byHand(host))).toEqual([null, null]);
  });

  it('are mkinitcpio’s by the name of the kernel’s package', async () => {
    const host = await hostWith({
      [`lib/modules/${release}/pkgbase`]: 'linux-lts\n',
      'boot/initramfs-linux-lts.img': '',
      'boot/initramfs-linux.img': '',
    });
    await program(host, 'mkinitcpio');
    expect(await byHand(host)).toEqual({ '/boot/initramfs-linux-lts.img': 'mkinitcpio -P' });
  });
});

describe('a host without an initramfs tool', () => {
  it('has nothing to make anew', async () => {
    const host = await openHost(await freshDirectory('no-initramfs'), true);
    expect(await initramfsOf(host, '6.1.0-1-amd64')).toEqual({ tool: null, images: [] });
  });
});
