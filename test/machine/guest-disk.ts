import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { debianPackage } from './debian.ts';
import { WORK } from './places.ts';
import { mustRun } from './run.ts';

/** The packages of a plain host: no compiler, make, headers or Node. */
const PACKAGES = ['initramfs-tools', 'iproute2', 'kmod', 'mokutil', 'systemd-sysv', 'udev', 'zstd'];

/** Files of the root, by their paths in it. */
const FILES: Readonly<Record<string, string>> = {
  'etc/fstab': `/dev/vda / ext4 defaults 0 1
host /host 9p trans=virtio,version=9p2000.L,msize=262144,ro 0 0
`,
  'etc/hostname': 'guest\n',
  'etc/hosts': '127.0.0.1 localhost guest\n',
  'etc/initramfs-tools/conf.d/guest': 'MODULES=list\n',
  'etc/initramfs-tools/modules': 'virtio_pci\nvirtio_blk\next4\n',
  'etc/machine-id': '',
  'etc/systemd/journald.conf.d/guest.conf': '[Journal]\nStorage=volatile\n',
  // On a busy machine, emulated devices take their time.
  'etc/systemd/system.conf.d/guest.conf': `[Manager]
DefaultDeviceTimeoutSec=10min
DefaultTimeoutStartSec=10min
`,
  'etc/systemd/system/guest-network.service': `[Unit]
Description=The one network card, with the address that qemu gives
BindsTo=sys-subsystem-net-devices-eth0.device
After=sys-subsystem-net-devices-eth0.device
Before=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=ip address replace 10.0.2.15/24 dev eth0
ExecStart=ip link set eth0 up
ExecStart=ip route replace default via 10.0.2.2

[Install]
WantedBy=network-online.target
`,
};

const ENABLED = ['guest-agent.service', 'guest-network.service'];

/** Units that only cost time under emulation. */
const MASKED = [
  'apt-daily-upgrade.timer',
  'apt-daily.timer',
  'dpkg-db-backup.timer',
  'e2scrub_all.timer',
  'e2scrub_reap.service',
  'fstrim.timer',
  'getty.target',
  'systemd-logind.service',
];

const AGENT = join(import.meta.dirname, 'guest-root/agent');
const AGENT_UNIT = join(import.meta.dirname, 'guest-root/agent.service');

const lay = async (root: string, path: string, content: string, mode = 0o644): Promise<void> => {
  await mkdir(dirname(join(root, path)), { recursive: true });
  await writeFile(join(root, path), content, { mode });
};

/** A minimal Debian root that boots by itself, without a kernel. */
const makeRoot = async (root: string): Promise<void> => {
  const beforehand = `${root}.files`;
  await rm(beforehand, { recursive: true, force: true });
  for (const [path, content] of Object.entries(FILES)) await lay(beforehand, path, content);
  await lay(beforehand, 'usr/local/sbin/guest-agent', await readFile(AGENT, 'utf8'), 0o755);
  await lay(
    beforehand,
    'etc/systemd/system/guest-agent.service',
    await readFile(AGENT_UNIT, 'utf8'),
  );
  await mkdir(join(beforehand, 'host'));
  await mustRun('mmdebstrap', [
    '--quiet',
    '--variant=minbase',
    '--format=directory',
    `--include=${PACKAGES.join(',')}`,
    `--setup-hook=cp -a '${beforehand}/.' "$1"`,
    '--customize-hook=rm -rf "$1"/usr/share/doc "$1"/usr/share/locale "$1"/usr/share/man "$1"/var/cache/apt "$1"/var/lib/apt/lists',
    `--customize-hook=chroot "$1" systemctl --quiet enable ${ENABLED.join(' ')}`,
    `--customize-hook=chroot "$1" systemctl --quiet mask ${MASKED.join(' ')}`,
    'bookworm',
    root,
  ]);
  await rm(beforehand, { recursive: true });
};

/** Installs a kernel package into a root with the root's own dpkg, whose hooks make the initrd. */
const installKernel = async (root: string, deb: string): Promise<void> => {
  const script = `mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && cp "$2" "$1/tmp/kernel.deb" &&
    chroot "$1" dpkg -i /tmp/kernel.deb && rm "$1/tmp/kernel.deb"`;
  await mustRun('unshare', ['--mount', 'sh', '-c', script, 'sh', root, deb], {
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', DEBIAN_FRONTEND: 'noninteractive' },
  });
};

/**
 * The disk of a minimal Debian 12 host with Debian's signed kernel of a release, an ext4 image of 4 GB with holes, made once
 * below `.kiln/guest`. It starts `guest-root/agent` and mounts what the machine hands over at `/host`.
 */
export const guestDisk = async (release: string): Promise<string> => {
  const image = join(WORK, 'guest', `${release}.img`);
  const deb = await debianPackage(`linux-image-${release}`);
  const recipe = createHash('sha256')
    .update(await readFile(import.meta.filename))
    .update(await readFile(AGENT))
    .update(await readFile(AGENT_UNIT))
    .update(deb)
    .digest('hex');
  const made = `${image}.recipe`;
  if ((await readFile(made, 'utf8').catch(() => '')) === recipe && (await isFile(image)))
    return image;
  const root = join(WORK, 'guest', `${release}.root`);
  await rm(root, { recursive: true, force: true });
  await mkdir(dirname(root), { recursive: true });
  await makeRoot(root);
  await installKernel(root, deb);
  await rm(image, { force: true });
  await mustRun('mke2fs', ['-q', '-t', 'ext4', '-d', root, `${image}.part`, '4G']);
  await rm(root, { recursive: true });
  await rename(`${image}.part`, image);
  await writeFile(made, recipe);
  return image;
};

const isFile = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isFile(),
    () => false,
  );
