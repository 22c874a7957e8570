import { copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { debianHeaders, debianPackage, debianSource } from '../machine/debian.ts';
import { FIRMWARE_CERTIFICATE, writeFirmwareKey } from '../machine/firmware.ts';
import { makeGuest, type Guest } from '../machine/guest.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { indexedKernel } from '../machine/indexed-kernel.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { layForGuest, makeArchive } from '../machine/own-archive.ts';
import { WORK } from '../machine/places.ts';
import { mustRun } from '../machine/run.ts';
import { until } from '../machine/until.ts';
import { twoReleases } from './kernels.ts';

const MINUTES = 60_000;
const APT = 'DEBIAN_FRONTEND=noninteractive apt-get -y -q --no-install-recommends';
const PACKAGE = 'v4l2loopback-modules-amd64';

/** A host with Secure Boot that has nothing of Kiln's but its repository: modules come, go and follow the kernel by apt alone. */
describe('a Secure Boot host with Kiln’s repository', () => {
  let kiln: KilnService;
  let guest: Guest;
  let older: string;
  let newer: string;

  beforeAll(async () => {
    ({ older, newer } = await twoReleases());
    const data = join(WORK, 'test/apt-life-service');
    await rm(data, { recursive: true, force: true });
    await mkdir(data, { recursive: true, mode: 0o700 });
    await writeFirmwareKey(join(data, 'signing.pem'));
    await copyFile(FIRMWARE_CERTIFICATE, join(data, 'signing.crt'));
    kiln = await startKiln(data, { KILN_LOG_LEVEL: 'warn' });
    await pinToolchain(kiln);
    for (const release of [older, newer])
      await kiln.json('kernel', 'push', await debianHeaders(release));
    await kiln.json('source', 'push', await debianSource('v4l2loopback-dkms'));
    await kiln.json('repo', 'publish', 'v4l2loopback', '--to', 'stable');
    guest = await makeGuest('apt-life', older);
    await build(older);
    const sources = await kiln.kiln('repo', 'sources', 'own');
    await writeFile(
      join(guest.shared, 'kiln.sources'),
      sources.stdout.replaceAll('127.0.0.1', '10.0.2.2'),
    );
    await makeKernelArchive();
    await guest.boot();
  }, 30 * MINUTES);

  afterAll(async () => {
    await kiln.stop();
    await guest.cut();
  });

  /** Builds the module for a kernel, and waits until the repository has it. */
  const build = async (release: string): Promise<void> => {
    await kiln.json('build', 'v4l2loopback', '-k', release);
    await until(`the repository has the module for ${release}`, async () => {
      const { status, stdout } = await kiln.kiln('repo', 'list', '--json');
      return status === 0 && stdout.includes(`v4l2loopback-modules-${release}`) && isServed(stdout);
    });
  };
  const isServed = (list: string): boolean =>
    (JSON.parse(list) as { repositories: { isCurrent: boolean }[] }).repositories.some(
      ({ isCurrent }) => isCurrent,
    );

  /** An archive of kernels, with the next one in it. */
  const makeKernelArchive = async (): Promise<void> => {
    const archive = await makeArchive('apt-life');
    await archive.addFile(await debianPackage(`linux-image-${newer}`));
    await archive.add(
      { name: 'linux-image-amd64', version: '9:1', depends: `linux-image-${newer}` },
      {},
    );
    await archive.publish();
    await layForGuest(archive, guest.shared, 'kernels');
  };

  const loads = async (release: string): Promise<void> => {
    expect((await guest.mustRun('uname -r')).trim()).toBe(release);
    await guest.mustRun('modprobe v4l2loopback');
    expect(await guest.mustRun('modinfo -F filename v4l2loopback')).toBe(
      `/lib/modules/${release}/updates/v4l2loopback/v4l2loopback.ko\n`,
    );
    expect(await guest.mustRun('ls /sys/devices/virtual/video4linux')).toBe('video0\n');
    const taints = Number(await guest.mustRun('cat /proc/sys/kernel/tainted'));
    const UNSIGNED = 1 << 13;
    expect(taints & UNSIGNED).toBe(0);
  };

  it(
    'installs the package and loads its module, which Secure Boot demands to be signed',
    async () => {
      expect(await guest.mustRun('mokutil --sb-state')).toMatch(/SecureBoot enabled/);
      expect(await guest.mustRun('cat /sys/kernel/security/lockdown')).toMatch(/\[integrity\]/);
      await guest.mustRun(
        'rm -f /etc/apt/sources.list /etc/apt/sources.list.d/* && cp /host/kiln.sources /etc/apt/sources.list.d/ && apt-get update -q --error-on=any',
        600,
      );
      await guest.mustRun(`${APT} install ${PACKAGE}`, 1200);
      await loads(older);
    },
    30 * MINUTES,
  );

  it(
    'gets the module with the next kernel in one run, and loads it after the reboot',
    async () => {
      await build(newer);
      await guest.mustRun(
        'cp /host/kernels.sources /etc/apt/sources.list.d/ && apt-get update -q',
        600,
      );
      await guest.mustRun(`${APT} install linux-image-amd64 ${PACKAGE}`, 1800);
      await guest.reboot(newer);
      await loads(newer);
    },
    60 * MINUTES,
  );

  it(
    'has none of it after the purge',
    async () => {
      await guest.mustRun('modprobe -r v4l2loopback');
      await guest.mustRun(`${APT} purge '?name(^v4l2loopback-)' kiln-modules-common`, 600);
      expect((await guest.run('modinfo v4l2loopback')).status).not.toBe(0);
      expect(await guest.mustRun(`find /lib/modules -path '*updates*'`)).toBe('');
    },
    15 * MINUTES,
  );

  it(
    'loads the module of an image that is merged over /usr, too, and of nothing else',
    async () => {
      await kiln.json(
        'package',
        'v4l2loopback',
        '-k',
        newer,
        '--format=sysext',
        '-o',
        guest.shared,
      );
      const name = `v4l2loopback-modules-${newer}`;
      const place = `/usr/lib/modules/${newer}/updates/v4l2loopback/v4l2loopback.ko`;
      await guest.mustRun(
        `mkdir -p /var/lib/extensions && cp /host/${name}.raw /var/lib/extensions/ && systemd-sysext refresh`,
        300,
      );
      expect(await guest.mustRun('findmnt -n -o FSTYPE /usr')).toBe('overlay\n');
      await guest.mustRun(`test -f ${place}`);
      expect((await guest.run('touch /usr/x')).status).not.toBe(0);
      await guest.mustRun(`systemctl daemon-reload && systemctl start ${name}.service`, 300);
      expect(await guest.mustRun('ls /sys/devices/virtual/video4linux')).toBe('video0\n');
      // The kernel's own index knows nothing of it.
      await guest.mustRun('rmmod v4l2loopback && systemd-sysext unmerge', 300);
      expect((await guest.run(`test -f ${place}`)).status).not.toBe(0);
    },
    15 * MINUTES,
  );

  it(
    'loads what an image for containers brings, as KMM’s worker does',
    async () => {
      const root = await indexedKernel(newer);
      const out = await freshDirectory('image');
      const asked = ['package', 'v4l2loopback', '-k', newer, '--format=oci', '--root', root];
      await kiln.json(...asked, '-o', out);
      const [file = ''] = await readdir(out);
      await mustRun('skopeo', [
        'copy',
        `oci-archive:${join(out, file)}`,
        `dir:${join(out, 'dir')}`,
      ]);
      const manifest = JSON.parse(await readFile(join(out, 'dir/manifest.json'), 'utf8')) as {
        layers: { digest: string }[];
      };
      const layer = manifest.layers[0]?.digest.replace('sha256:', '') ?? '';
      await copyFile(join(out, 'dir', layer), join(guest.shared, 'layer.tar'));
      await guest.mustRun(
        'tar -C /tmp -xf /host/layer.tar && modprobe -vd /tmp/opt v4l2loopback',
        300,
      );
      expect(await guest.mustRun('ls /sys/devices/virtual/video4linux')).toBe('video0\n');
      await guest.mustRun('modprobe -rvd /tmp/opt v4l2loopback', 300);
      expect((await guest.run('test -d /sys/module/v4l2loopback')).status).not.toBe(0);
    },
    15 * MINUTES,
  );
});
