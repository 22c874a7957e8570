import { copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { IssuedToken } from '../../services/core/protocol/token.ts';
import { sourcesOf } from '../machine/apt.ts';
import { debianPackage } from '../machine/debian.ts';
import { FIRMWARE_CERTIFICATE, writeFirmwareKey } from '../machine/firmware.ts';
import { makeGuest, type Guest } from '../machine/guest.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { layForGuest, makeArchive } from '../machine/own-archive.ts';
import { ourPackages } from '../machine/packages.ts';
import { WORK } from '../machine/places.ts';
import { modulesOf, twoReleases } from './kernels.ts';

const MINUTES = 60_000;

/** Where the service answers, so that it is found again after it was away. */
const LISTEN = '127.0.0.1:18470';
const URL_IN_GUEST = 'http://10.0.2.2:18470';

const HEADERS = String.raw`linux-headers-(?<release>6\.1\.0-\d+-(?<flavour>amd64))`;

/** How often apt is killed, and how often power is lost, while it installs or purges. */
const TIMES = 5;

const APT = 'DEBIAN_FRONTEND=noninteractive apt-get -y -q --no-install-recommends';

/** What an admin does, or a script does for them, after apt was ended in the middle. */
const FINISH = `DEBIAN_FRONTEND=noninteractive dpkg --configure -a && ${APT} --fix-broken install`;

/** A host with kiln-dkms, Secure Boot and a firmware that knows the signer: everything is done by apt, as with dkms. */
describe('a Secure Boot host with kiln-dkms', () => {
  const data = join(WORK, 'test/dkms-life-service');
  let kiln: KilnService;
  let guest: Guest;
  let older: string;
  let newer: string;
  let untouched: string;

  const start = async (): Promise<void> => {
    kiln = await startKiln(data, { KILN_LOG_LEVEL: 'warn' }, LISTEN);
  };

  beforeAll(async () => {
    ({ older, newer } = await twoReleases());
    await rm(data, { recursive: true, force: true });
    await mkdir(data, { recursive: true, mode: 0o700 });
    await writeFirmwareKey(join(data, 'signing.pem'));
    await copyFile(FIRMWARE_CERTIFICATE, join(data, 'signing.crt'));
    await start();
    await pinToolchain(kiln);
    const sources = join(data, 'debian.sources');
    await writeFile(sources, await sourcesOf({}));
    const what = ['--sources', sources, '--headers', HEADERS];
    await kiln.json(
      'archive',
      'add',
      'debian',
      ...what,
      '--modules',
      '(v4l2loopback|acpi-call)-dkms',
    );
    await kiln.json('kernel', 'sync', '--wait');
    guest = await makeGuest('dkms-life', older);
    await makeAptArchive();
    await copyFile(FIRMWARE_CERTIFICATE, join(guest.shared, 'signer.pem'));
    await guest.boot();
    untouched = await modulesOf(guest, older);
  }, 30 * MINUTES);

  afterAll(async () => {
    await kiln.stop();
    await guest.cut();
  });

  /** What the guest's apt knows: Kiln's packages, two of Debian's modules, and a newer kernel. */
  const makeAptArchive = async (): Promise<void> => {
    const archive = await makeArchive('dkms-life');
    const debian = ['v4l2loopback-dkms', 'acpi-call-dkms', `linux-image-${newer}`];
    for (const name of debian) await archive.addFile(await debianPackage(name));
    for (const deb of Object.values(await ourPackages())) await archive.addFile(deb);
    await archive.publish();
    await layForGuest(archive, guest.shared, 'own');
  };

  /** What the kernel says of a loaded module. */
  const stateOf = async (module: string): Promise<string> =>
    (await guest.run(`cat /sys/module/${module}/initstate`)).stdout.trim();

  const dkmsStatus = async (): Promise<readonly string[]> =>
    (await guest.mustRun('dkms status')).split('\n').filter(Boolean).sort();

  it(
    'installs kiln-dkms and a package of modules in one run of apt, without a compiler, before it knows a service',
    async () => {
      expect(await guest.mustRun('mokutil --sb-state')).toMatch(/SecureBoot enabled/);
      await guest.mustRun(
        'rm -f /etc/apt/sources.list /etc/apt/sources.list.d/* && cp /host/own.sources /etc/apt/sources.list.d/ && apt-get update -q',
        600,
      );
      await guest.mustRun(`${APT} install kiln-dkms v4l2loopback-dkms`, 1200);
      for (const program of ['cc', 'gcc', 'make', 'ld', 'node'])
        expect((await guest.run(`command -v ${program}`)).status).not.toBe(0);
      expect(await dkmsStatus()).toEqual([expect.stringMatching(/^v4l2loopback\/\S+: added$/)]);
    },
    30 * MINUTES,
  );

  it(
    'has the module loaded after a reboot, once it is set up',
    async () => {
      const { secret } = await kiln.json<IssuedToken>('token', 'create', 'guest', '--role', 'ci');
      await guest.mustRun(`umask 077 && mkdir -p /etc/kiln && echo '${secret}' >/etc/kiln/token`);
      await guest.mustRun(
        `kiln setup ${URL_IN_GUEST} --token-file /etc/kiln/token --certificate /host/signer.pem`,
        600,
      );
      await guest.mustRun('systemctl start kiln-autoinstall.service', 1200);
      await guest.mustRun('echo v4l2loopback >/etc/modules-load.d/v4l2loopback.conf');
      await guest.reboot();
      expect(await stateOf('v4l2loopback')).toBe('live');
      const UNSIGNED = 1 << 13;
      expect(Number(await guest.mustRun('cat /proc/sys/kernel/tainted')) & UNSIGNED).toBe(0);
    },
    30 * MINUTES,
  );

  it(
    'has it loaded after apt brought a new kernel and a reboot',
    async () => {
      await guest.mustRun(`${APT} install linux-image-${newer}`, 2400);
      expect(await dkmsStatus()).toEqual([
        expect.stringMatching(`^v4l2loopback/\\S+, ${older}, x86_64: installed$`),
        expect.stringMatching(`^v4l2loopback/\\S+, ${newer}, x86_64: installed$`),
      ]);
      await guest.reboot(newer);
      expect((await guest.mustRun('uname -r')).trim()).toBe(newer);
      expect(await stateOf('v4l2loopback')).toBe('live');
    },
    60 * MINUTES,
  );

  /** Whether acpi-call is there for both kernels, whole; throws where it is neither there nor gone. */
  const isThere = async (): Promise<boolean> => {
    const files = await guest.mustRun(
      'find /lib/modules -name "acpi_call.ko*" -path "*/updates/*" | LC_ALL=C sort',
    );
    const indexed = await guest.mustRun(
      'grep -l "^updates/dkms/acpi_call.ko" /lib/modules/*/modules.dep || [ $? = 1 ]',
    );
    const status = (await dkmsStatus()).filter((line) => line.startsWith('acpi-call'));
    const found = [files, indexed, status.join('\n')].map((text) =>
      [older, newer].filter((release) => text.includes(release)),
    );
    expect([[[], [], []], found[0]?.length === 2 ? found : null]).toContainEqual(found);
    expect((await guest.run('kiln verify --all')).status).toBe(0);
    return found[0]?.length === 2;
  };
  const install = `${APT} install acpi-call-dkms`;
  const purge = `${APT} purge acpi-call-dkms`;

  /** Brings what apt left to its end, as an admin would, and says whether the modules are there then. */
  const finish = async (): Promise<boolean> => {
    await guest.mustRun(FINISH, 1200);
    await guest.mustRun('systemctl start kiln-autoinstall.service', 1200);
    return isThere();
  };

  /** Interrupts installs and purges at moments all over their time; each ends well after what an admin does then. */
  const interrupt = async (begin: (script: string, after: number) => Promise<void>) => {
    let isIn = await isThere();
    const started = Date.now();
    await guest.mustRun(isIn ? purge : install, 1200);
    const took = (Date.now() - started) / 1000;
    isIn = !isIn;
    expect(await isThere()).toBe(isIn);
    for (let time = 0; time < TIMES; time += 1) {
      const wanted = !isIn;
      await begin(wanted ? install : purge, (took * (time + Math.random())) / TIMES);
      isIn = await finish();
      if (isIn === wanted) continue;
      // It was ended before dpkg had begun: the same command does it.
      await guest.mustRun(wanted ? install : purge, 1200);
      isIn = await isThere();
      expect(isIn).toBe(wanted);
    }
    if (isIn) await guest.mustRun(purge, 1200);
  };

  it(
    'finishes what apt had begun when it was killed',
    () =>
      interrupt(async (script, after) => {
        await guest.mustRun(
          `systemd-run --quiet --collect --unit=apt-run sh -c '${script}'; sleep ${after.toFixed(1)}; systemctl kill --signal=KILL apt-run.service; sleep 2; ! systemctl --quiet is-active apt-run.service`,
          1200,
        );
      }),
    120 * MINUTES,
  );

  it(
    'finishes what apt had begun when power was lost',
    () =>
      interrupt(async (script, after) => {
        const work = guest.run(script, 1200).catch(() => null);
        await new Promise((resolve) => setTimeout(resolve, after * 1000));
        await guest.cut();
        await work;
        await guest.boot();
      }),
    120 * MINUTES,
  );

  it(
    'is not held up by a service that is gone, and the timer’s command finishes when it is back',
    async () => {
      await kiln.stop();
      await guest.mustRun(install, 1200);
      expect(await isThere()).toBe(false);
      await start();
      expect(await finish()).toBe(true);
    },
    60 * MINUTES,
  );

  it(
    'has nothing left once the packages are purged',
    async () => {
      await guest.mustRun(`${APT} purge acpi-call-dkms v4l2loopback-dkms`, 1200);
      expect(await guest.mustRun(`find /lib/modules -path '*updates*'; ls /var/lib/dkms`)).toBe('');
      expect(await modulesOf(guest, older)).toBe(untouched);
    },
    30 * MINUTES,
  );
});
