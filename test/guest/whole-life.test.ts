import { copyFile, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { IssuedToken } from '../../services/core/protocol/token.ts';
import { debianHeaders, debianPackage, debianSource } from '../machine/debian.ts';
import { FIRMWARE_CERTIFICATE, writeFirmwareKey } from '../machine/firmware.ts';
import { makeGuest, type Guest } from '../machine/guest.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { ourPackages } from '../machine/packages.ts';
import { WORK } from '../machine/places.ts';
import { modulesOf, twoReleases } from './kernels.ts';

const MINUTES = 60_000;

/** Sources by name, and the modules that each makes, as the kernel names them. */
const SOURCES: Readonly<Record<string, readonly string[]>> = {
  v4l2loopback: ['v4l2loopback'],
  'dm-writeboost': ['dm_writeboost'],
  'rapiddisk-dkms': ['rapiddisk', 'rapiddisk_cache'],
};
const NAMES = Object.keys(SOURCES);
const MODULES = Object.values(SOURCES).flat().sort();

/** How often power is lost while modules are installed or removed. */
const CUTS = 6;

/**
 * A host's life with Kiln: a minimal Debian with Secure Boot, under emulation. Kiln's signer has the key whose certificate the
 * firmware knows.
 */
describe('a Secure Boot host with Debian’s kernel', () => {
  let kiln: KilnService;
  let guest: Guest;
  let older: string;
  let newer: string;
  /** All below `/lib/modules` before Kiln came. */
  let untouched: string;

  beforeAll(async () => {
    ({ older, newer } = await twoReleases());
    kiln = await startService();
    guest = await makeGuest('whole-life', older);
    await copyFile((await ourPackages()).kiln, join(guest.shared, 'kiln.deb'));
    await copyFile(await debianPackage(`linux-image-${newer}`), join(guest.shared, 'newer.deb'));
    await copyFile(FIRMWARE_CERTIFICATE, join(guest.shared, 'signer.pem'));
    await guest.boot();
    untouched = await modulesOf(guest, older);
  }, 30 * MINUTES);

  afterAll(async () => {
    await kiln.stop();
    await guest.cut();
  });

  const startService = async (): Promise<KilnService> => {
    const data = join(WORK, 'test/whole-life-service');
    await rm(data, { recursive: true, force: true });
    await mkdir(data, { recursive: true, mode: 0o700 });
    await writeFirmwareKey(join(data, 'signing.pem'));
    await copyFile(FIRMWARE_CERTIFICATE, join(data, 'signing.crt'));
    const service = await startKiln(data, { KILN_LOG_LEVEL: 'warn' });
    await pinToolchain(service);
    for (const release of [older, newer])
      await service.json('kernel', 'push', await debianHeaders(release));
    for (const name of NAMES)
      await service.json(
        'source',
        'push',
        await debianSource(`${name.replace(/-dkms$/, '')}-dkms`),
      );
    return service;
  };

  const loaded = async (): Promise<string[]> => {
    const names = (await guest.mustRun('cut -d " " -f 1 /proc/modules')).split('\n');
    return names.filter((name) => MODULES.includes(name)).sort();
  };

  const status = async (): Promise<string> => (await guest.run('kiln status')).stdout;

  it('is locked down, because the firmware’s Secure Boot is on', async () => {
    expect(await guest.mustRun('cat /sys/kernel/security/lockdown')).toMatch(/\[integrity\]/);
    expect(await guest.mustRun('mokutil --sb-state')).toMatch(/SecureBoot enabled/);
    expect((await guest.mustRun('uname -r')).trim()).toBe(older);
  });

  it(
    'gets the package, which brings no compiler, and is set up',
    async () => {
      await guest.mustRun('dpkg -i /host/kiln.deb');
      for (const program of ['cc', 'gcc', 'make', 'ld', 'node'])
        expect((await guest.run(`command -v ${program}`)).status).not.toBe(0);
      const { secret } = await kiln.json<IssuedToken>('token', 'create', 'whole-life');
      await guest.mustRun(`umask 077 && mkdir -p /etc/kiln && echo '${secret}' >/etc/kiln/token`);
      const url = kiln.url.replace('127.0.0.1', '10.0.2.2');
      await guest.mustRun(
        `kiln setup ${url} --token-file /etc/kiln/token --certificate /host/signer.pem`,
      );
      expect(await guest.run('kiln doctor')).toMatchObject({ status: 0 });
    },
    10 * MINUTES,
  );

  it(
    'installs three sources’ modules, loads them at once, and has them loaded after a reboot',
    async () => {
      const install = `kiln install ${NAMES.join(' ')} --load`;
      await guest.mustRun(`${install} --parameter v4l2loopback.devices=2`, 1200);
      expect(await loaded()).toEqual(MODULES);
      expect(await guest.mustRun('ls /sys/devices/virtual/video4linux | wc -l')).toBe('2\n');
      expect(await guest.run(install, 1200)).toMatchObject({ status: 0 });
      expect(await guest.run(`${install} --parameter v4l2loopback.devices=3`, 1200)).toMatchObject({
        status: 8,
        stderr: expect.stringMatching(/v4l2loopback was loaded already, without these parameters/),
      });
      await guest.mustRun(
        `printf '%s\\n' ${MODULES.join(' ')} >/etc/modules-load.d/whole-life.conf`,
      );
      await guest.reboot();
      expect(await loaded()).toEqual(MODULES);
      const taints = Number(await guest.mustRun('cat /proc/sys/kernel/tainted'));
      const UNSIGNED = 1 << 13;
      expect(taints & UNSIGNED).toBe(0);
    },
    30 * MINUTES,
  );

  it(
    'has the modules of a new kernel ready when its package is installed, and loaded after the reboot into it',
    async () => {
      const said = await guest.run('dpkg -i /host/newer.deb', 1800);
      expect(said).toMatchObject({ status: 0 });
      for (const module of MODULES) {
        expect(await guest.mustRun(`modinfo -k ${newer} -F filename ${module}`)).toMatch(
          `/lib/modules/${newer}/updates/kiln/`,
        );
      }
      await guest.reboot(newer);
      expect((await guest.mustRun('uname -r')).trim()).toBe(newer);
      expect(await loaded()).toEqual(MODULES);
    },
    60 * MINUTES,
  );

  it('verifies all of them offline', async () => {
    const { status: code, stdout } = await guest.run(
      'ip link set eth0 down; kiln verify --all; code=$?; systemctl restart guest-network; exit $code',
    );
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.not.stringMatching(/not inst/) });
    expect(stdout.split('\n').filter((line) => /\bok$/.test(line))).toHaveLength(
      2 * MODULES.length,
    );
  });

  it(
    'rolls back what the hook installed, and takes that back',
    async () => {
      await guest.mustRun('kiln rollback', 600);
      expect((await guest.run(`find /lib/modules/${newer}/updates`)).stdout).toBe('');
      expect(await guest.mustRun(`find /lib/modules/${older}/updates -name '*.ko*'`)).toMatch(
        /v4l2loopback/,
      );
      expect(await status()).toMatch(new RegExp(`${newer} +v4l2loopback.* missing`));
      await guest.mustRun('kiln rollback', 600);
      expect((await guest.run('kiln verify')).status).toBe(0);
    },
    20 * MINUTES,
  );

  it(
    'has nothing of them left after they are removed',
    async () => {
      await guest.mustRun(`kiln remove ${NAMES.join(' ')}`, 600);
      await guest.mustRun('rm /etc/modules-load.d/whole-life.conf');
      expect(await status()).toMatch(/nothing is installed/);
      expect(await modulesOf(guest, older)).toBe(untouched);
      expect((await guest.run(`find /var/lib/kiln/receipts /var/lib/kiln/displaced`)).stdout).toBe(
        '',
      );
    },
    20 * MINUTES,
  );

  /** What an install changes and a removal takes back, in the running kernel. */
  const installed = (): Promise<string> =>
    guest.mustRun(`cd /lib/modules/${newer}
      find . -name '*kiln*' | LC_ALL=C sort
      find updates /var/lib/kiln/receipts /var/lib/kiln/displaced -type f 2>/dev/null | LC_ALL=C sort
      grep -o '^updates/[^:]*' modules.dep | LC_ALL=C sort
      find /boot -name '*kiln*'
      ls /var/lib/kiln/journal.json 2>/dev/null
      exit 0`);

  it(
    'loses power in the middle, and is as before or as after',
    async () => {
      const add = `kiln install ${NAMES.join(' ')} -k ${newer}`;
      const remove = `kiln remove ${NAMES.join(' ')}`;
      const without = await installed();
      const started = Date.now();
      await guest.mustRun(add, 600);
      const took = Date.now() - started;
      const within = await installed();
      expect(within).not.toBe(without);
      let now = within;
      const found: string[] = [];
      for (let cut = 0; cut < CUTS; cut += 1) {
        const work = guest.run(now === within ? remove : add, 600).catch(() => null);
        await new Promise((resolve) => setTimeout(resolve, (took * (cut + Math.random())) / CUTS));
        await guest.cut();
        await work;
        await guest.boot();
        await guest.mustRun('kiln recover', 600);
        now = await installed();
        expect([without, within]).toContain(now);
        found.push(now === within ? 'with' : 'without');
        expect((await guest.run('kiln verify')).status).toBe(now === within ? 0 : 3);
      }
      expect(found).toHaveLength(CUTS);
      if (now === within) await guest.mustRun(remove, 600);
      expect(await installed()).toBe(without);
    },
    60 * MINUTES,
  );

  it(
    'is as if there had never been a Kiln once the package is purged',
    async () => {
      await guest.mustRun('rm -f /etc/kiln/token && dpkg --purge kiln', 600);
      expect(
        await guest.mustRun(
          'find / -xdev -name "*kiln*" ! -path "/var/lib/dpkg/*" ! -path "/proc/*"',
        ),
      ).toBe('');
    },
    10 * MINUTES,
  );
});
