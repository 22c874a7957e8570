import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { debianKernel } from '../machine/debian.ts';
import {
  FIRMWARE_CERTIFICATE,
  firmwareArguments,
  signForFirmware,
  writeFirmwareKey,
} from '../machine/firmware.ts';
import { pinToolchain, startKiln } from '../machine/kiln-service.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { mustRun, run } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';

/**
 * Debian's own kernel decides: booted with Secure Boot, in lockdown, under emulation. Kiln's signer holds the key whose
 * certificate the firmware knows (ovmf's snakeoil key, made for such tests).
 */
describe('Debian’s kernel, in Secure Boot and lockdown', () => {
  const { release, headers, source } = sharedKiln();
  let directory: string;
  let key: string;
  let console: string;

  beforeAll(async () => {
    directory = await freshDirectory('secure-boot');
    key = join(directory, 'snakeoil.key');
    await writeFirmwareKey(key);
    const modules = join(directory, 'modules');
    await mkdir(modules);
    await buildModule(modules);
    await signKernelsOwn(modules);
    const boot = await debianKernel(release);
    const kernel = join(directory, 'vmlinuz');
    await signForFirmware(key, join(boot, 'boot', `vmlinuz-${release}`), kernel);
    console = await bootGuest(kernel, await packInitrd(modules));
  });

  /** Kiln's module, the same without its signature, and the same with one byte flipped. */
  const buildModule = async (modules: string): Promise<void> => {
    const data = await freshDirectory('snakeoil');
    await copyFile(key, join(data, 'signing.pem'));
    await copyFile(FIRMWARE_CERTIFICATE, join(data, 'signing.crt'));
    const kiln = await startKiln(data, { KILN_LOG_LEVEL: 'warn' });
    try {
      await pinToolchain(kiln);
      const { modules: built } = await kiln.json<{ modules: { unsigned: string }[] }>(
        'build',
        source,
        '-k',
        headers,
        '-o',
        modules,
      );
      await copyFile(join(modules, 'v4l2loopback.ko'), join(modules, 'kiln.ko'));
      const token = await kiln.adminToken();
      const url = `${kiln.url}/v1/artifacts/${built[0]?.unsigned ?? ''}`;
      await mustRun('curl', [
        '-sSf',
        '-H',
        `Authorization: Bearer ${token}`,
        '-o',
        join(modules, 'unsigned.ko'),
        url,
      ]);
      const bytes = await readFile(join(modules, 'kiln.ko'));
      bytes.writeUInt8(bytes.readUInt8(5000) ^ 1, 5000);
      await writeFile(join(modules, 'flipped.ko'), bytes);
    } finally {
      await kiln.stop();
    }
  };

  /** What v4l2loopback needs of the kernel's own modules, signed as Debian's signing service would. */
  const signKernelsOwn = async (modules: string): Promise<void> => {
    const media = join(await debianKernel(release), 'lib/modules', release, 'kernel/drivers/media');
    for (const path of ['mc/mc.ko', 'v4l2-core/videodev.ko']) {
      const copy = join(modules, path.split('/').at(-1) ?? '');
      await copyFile(join(media, path), copy);
      await mustRun(join(headers, 'usr/lib/linux-kbuild-6.1/scripts/sign-file'), [
        'sha256',
        key,
        FIRMWARE_CERTIFICATE,
        copy,
      ]);
    }
  };

  const INIT = `#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t securityfs sec /sys/kernel/security
echo "FACT lockdown $(busybox cat /sys/kernel/security/lockdown)"
echo "FACT kernel $(busybox uname -r)"
attempt() {
  busybox insmod /modules/$1.ko 2>&1; echo "RESULT $1 $?"
}
attempt mc
attempt videodev
attempt unsigned
attempt flipped
attempt kiln
echo "FACT device $(busybox ls /sys/class/video4linux)"
busybox poweroff -f
`;

  const packInitrd = async (modules: string): Promise<string> => {
    const tree = join(directory, 'initrd');
    for (const name of ['bin', 'proc', 'sys']) await mkdir(join(tree, name), { recursive: true });
    await copyFile('/bin/busybox', join(tree, 'bin/busybox'));
    await mustRun('cp', ['-r', modules, join(tree, 'modules')]);
    await writeFile(join(tree, 'init'), INIT, { mode: 0o755 });
    const file = join(directory, 'initrd.img');
    await mustRun('sh', [
      '-c',
      'cd "$1" && find . | cpio --quiet -o -H newc > "$2"',
      'sh',
      tree,
      file,
    ]);
    return file;
  };

  const bootGuest = async (kernel: string, initrd: string): Promise<string> => {
    // A file takes all that is written at once; a pipe that is read slowly loses some of it.
    const serial = join(directory, 'serial');
    await run('timeout', [
      '200',
      'qemu-system-x86_64',
      ...(await firmwareArguments(directory)),
      '-m',
      '1024',
      '-display',
      'none',
      '-no-reboot',
      '-net',
      'none',
      '-kernel',
      kernel,
      '-initrd',
      initrd,
      '-append',
      'console=ttyS0 panic=-1',
      '-serial',
      `file:${serial}`,
      '-monitor',
      'none',
    ]);
    return (await readFile(serial, 'utf8')).replaceAll('\r', '');
  };

  it('is that kernel, and is locked down because the firmware’s Secure Boot is on', () => {
    expect(console).toMatch(new RegExp(`^FACT kernel ${release}$`, 'm'));
    expect(console).toMatch(/^FACT lockdown none \[integrity\]/m);
    expect(console).toMatch(/secureboot: Secure boot enabled/);
  });

  it('loads the module from Kiln, which then is at work', () => {
    expect(console).toMatch(/^RESULT kiln 0$/m);
    expect(console).toMatch(/^FACT device video0$/m);
  });

  it('refuses the same module unsigned', () => {
    expect(console).toMatch(/^RESULT unsigned [1-9]/m);
    expect(console).toMatch(
      /Loading of unsigned module is rejected|unsigned module loading is restricted/,
    );
  });

  it('refuses it with one byte flipped', () => {
    expect(console).toMatch(/flipped\.ko': Key was rejected by service/);
    expect(console).toMatch(/^RESULT flipped [1-9]/m);
  });
});
