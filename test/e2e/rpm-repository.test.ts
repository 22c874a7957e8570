import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import { planPackage } from '../../services/core/packages/plan-package.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import type { PackageView } from '../../services/core/protocol/package.ts';
import type { RepositoriesView } from '../../services/core/protocol/repository.ts';
import { makeSigningKey } from '../../services/machine/make-signing-key.ts';
import { releasesOf } from '../machine/debian.ts';
import { fewHeaders } from '../machine/few-headers.ts';
import { serveFiles, type FileServer } from '../machine/file-server.ts';
import { kernelDevel } from '../machine/kernel-devel.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { DKMS_TOOLCHAIN } from '../machine/places.ts';
import { freshDirectory, kbuildSource, moduleCode } from '../machine/make-source.ts';
import { ownKernel } from '../machine/own-kernel.ts';
import { kernelCore, rpmHost, type RpmHost } from '../machine/rpm-host.ts';
import { packRpm } from '../machine/pack-plan.ts';
import { publish, rpmRepository } from '../machine/rpm-repository.ts';
import { mustRun, run } from '../machine/run.ts';
import { relayTo, spoil } from '../machine/relay.ts';
import { until } from '../machine/until.ts';

/** Hosts of dnf and zypper that have nothing of Kiln's but its repository. */

const OLDER = '6.1.0-427.9.1.el9.x86_64';
const NEWER = '6.1.0-427.20.1.el9.x86_64';
const SETTINGS = 'options camera a=1\n';

let kiln: KilnService;
let host: RpmHost;
let kernels: string;
let served: FileServer;

const modules = (release: string): string => `kmod-camera-${release}`;
const place = (release: string): string =>
  join(host.root, 'lib/modules', release, 'updates/camera/camera.ko');
const indexed = (release: string): Promise<string> =>
  readFile(join(host.root, 'lib/modules', release, 'modules.dep'), 'utf8');
const push = async (version: string): Promise<void> => {
  const source = await kbuildSource('camera', moduleCode(`MODULE_VERSION("${version}");`));
  await writeFile(join(source, 'camera.conf'), SETTINGS);
  const file = '--file=/lib/modprobe.d/camera.conf=camera.conf';
  await kiln.json('source', 'push', source, '--name', 'camera', '--version', version, file);
};
const build = (release: string): Promise<BuildView> =>
  kiln.json<BuildView>('build', 'camera', '-k', release);
/** The packages in the repository, once its index has all that are published. */
const published = async (): Promise<readonly string[]> => {
  const { repositories } = await kiln.json<RepositoriesView>('repo', 'list');
  const found = repositories.find(({ channel }) => channel === 'stable');
  expect(found?.problem ?? null).toBeNull();
  if (found?.isCurrent !== true) return [];
  return found.packages.map(({ name, version }) => `${name} ${version}`);
};
const isThere = (name: RegExp): Promise<void> =>
  until(`a package ${name}`, async () => (await published()).some((each) => name.test(each)));
const dnf = (...args: string[]): Promise<string> => host.mustRun('dnf', '-y', '--refresh', ...args);

beforeAll(async () => {
  const [debian = ''] = await releasesOf('amd64');
  kiln = await startKiln(await freshDirectory('rpm-repository'), { KILN_LOG_LEVEL: 'warn' });
  await pinToolchain(kiln);
  await pinToolchain(kiln, DKMS_TOOLCHAIN);
  const headers = await fewHeaders(debian);
  for (const release of [OLDER, NEWER]) {
    const { tree } = await ownKernel(headers, debian, release);
    await kiln.json('kernel', 'push', await kernelDevel(tree, release));
  }
  host = await rpmHost();
  const unsigned = { packages: null, metadata: null };
  kernels = await rpmRepository([await kernelCore(OLDER)], unsigned);
  served = await serveFiles(kernels);
  await mkdir(join(host.root, 'etc/yum.repos.d'), { recursive: true });
  await writeFile(
    join(host.root, 'etc/yum.repos.d/kernels.repo'),
    `[kernels]\nname=Kernels\nbaseurl=${served.url}\ngpgcheck=0\n`,
  );
});
afterAll(async () => {
  await kiln.stop();
  await served.close();
});

describe('a source’s RPM packages', () => {
  it('are made in the queue, hold what was signed, and are fine with rpmlint', async () => {
    await push('1.0');
    const { id } = await build(OLDER);
    const out = await freshDirectory('out');
    const made = await kiln.json<readonly PackageView[]>(
      'package',
      id,
      '--format',
      'rpm',
      '-o',
      out,
    );
    expect(made.map(({ name }) => name)).toEqual([
      modules(OLDER),
      'kmod-camera-settings',
      'kiln-modules-common',
    ]);
    for (const file of await readdir(out)) {
      const { stdout } = await run('rpmlint', [join(out, file)]);
      expect(stdout).toMatch(/1 packages and 0 specfiles checked/);
      const errors = stdout.split('\n').filter((line) => / E: /.test(line));
      // What a repository has is signed.
      expect(errors.filter((line) => !line.endsWith('E: no-signature'))).toEqual([]);
    }
  });

  it('have the same bytes when they are packed in another place', async () => {
    const out = await freshDirectory('here');
    await kiln.json('package', 'camera', '-k', OLDER, '--format', 'rpm', '-o', out);
    const files = [
      { place: '/lib/modprobe.d/camera.conf', digest: digestOf(SETTINGS), size: SETTINGS.length },
    ];
    const source = { name: 'camera', version: '1.0' };
    const settings = { kind: 'settings', source, licenses: ['GPL'], files, revision: 1 } as const;
    for (const subject of [settings, { kind: 'common' } as const]) {
      const plan = planPackage('rpm', subject);
      const there = await packRpm(plan, async () => SETTINGS);
      expect(await readFile(there)).toEqual(await readFile(join(out, plan.file)));
    }
  });
});

describe('a host of dnf', () => {
  it('installs what is published with the kernel, indexed once', async () => {
    await kiln.json('repo', 'publish', 'camera', '--to', 'stable', '--format', 'rpm');
    await isThere(/^kmod-camera /);
    const { stdout: repo } = await kiln.kiln('repo', 'sources', 'own', '--format', 'rpm');
    await writeFile(join(host.root, 'etc/yum.repos.d/kiln.repo'), repo);
    await mkdir(join(host.root, 'etc/pki/rpm-gpg'), { recursive: true });
    const { stdout: key } = await kiln.kiln('repo', 'key');
    await writeFile(join(host.root, 'etc/pki/rpm-gpg/RPM-GPG-KEY-kiln'), key);
    await dnf('install', '--downloadonly', '--downloaddir=/root/rpms', 'kmod-camera');
    await host.mustRun('rpm', '--import', '/etc/pki/rpm-gpg/RPM-GPG-KEY-kiln');
    expect(await host.mustRun('sh', '-c', 'rpm -K /root/rpms/k*mod*.rpm')).not.toMatch(
      /NOT OK|digests OK/,
    );
    await dnf('install', 'kernel-core', 'kmod-camera');
    const [made] = await kiln.json<readonly BuildView[]>('list');
    expect(digestOf(await readFile(place(OLDER)))).toBe(made?.modules[0]?.signed);
    expect(await indexed(OLDER)).toMatch(/^updates\/camera\/camera\.ko:/m);
    for (const name of [
      modules(OLDER),
      'kmod-camera',
      'kmod-camera-settings',
      'kiln-modules-common',
    ])
      expect(await host.mustRun('rpm', '-V', name)).toBe('');
  });

  it('is told the key that the pinned certificate vouches for, and no other', async () => {
    const other = join(await freshDirectory('other'), 'key');
    await makeSigningKey(`${other}.pem`, `${other}.crt`);
    const asked = (...args: readonly string[]) => kiln.kiln('repo', ...args);
    for (const args of [['key'], ['sources', 'own', '--format', 'rpm']]) {
      const pinned = await asked(...args, '--certificate', join(kiln.data, 'signing.crt'));
      expect([pinned.status, pinned.stderr]).toEqual([0, '']);
      const none = await asked(...args);
      expect([none.status, none.stdout]).toEqual([0, pinned.stdout]);
      expect(none.stderr).toMatch(/^not verified: no certificate is pinned/m);
      const refused = await asked(...args, '--certificate', `${other}.crt`);
      expect([refused.status, refused.stdout, refused.stderr]).toEqual([
        6,
        '',
        expect.stringMatching(
          /key of the repositories is not stated by the key of the certificate/,
        ),
      ]);
    }
  });

  it('gets the modules of the next kernel in the same run, and keeps those of the one before', async () => {
    await build(NEWER);
    await isThere(new RegExp(`^${modules(NEWER)} `));
    await mustRun('cp', [await kernelCore(NEWER), join(kernels, 'Packages/k')]);
    await publish(kernels, { metadata: null });
    await dnf('upgrade');
    for (const release of [OLDER, NEWER]) {
      expect(await indexed(release)).toMatch(/^updates\/camera\/camera\.ko:/m);
      expect(await host.mustRun('rpm', '-V', modules(release))).toBe('');
    }
  });

  it('upgrades, goes back to the version before, and leaves nothing behind', async () => {
    const before = await readFile(place(NEWER));
    await push('1.1');
    await build(OLDER);
    await build(NEWER);
    await isThere(/^kmod-camera 1\.1-/);
    await dnf('upgrade');
    expect(await readFile(place(NEWER))).not.toEqual(before);
    await dnf('downgrade', `${modules(NEWER)}-1.0`, 'kmod-camera-1.0');
    expect(await readFile(place(NEWER))).toEqual(before);
    await dnf('remove', 'kmod-camera*', 'kiln-modules-common');
    expect(await indexed(NEWER)).not.toMatch(/camera/);
    expect(await host.run('ls', '/lib/modules', '/lib/modules/' + NEWER)).toMatchObject({
      stdout: expect.not.stringMatching(/updates/),
    });
  });

  it('refuses packages and lists that were changed', async () => {
    let change: RegExp | null = null;
    const relay = await relayTo(kiln.url, (path, bytes) => {
      if (change?.test(path) === true) spoil(bytes);
    });
    const file = join(host.root, 'etc/yum.repos.d/kiln.repo');
    const text = await readFile(file, 'utf8');
    try {
      await writeFile(file, text.replace(kiln.url, relay.url));
      for (const path of [/repomd\.xml$/, /repomd\.xml\.asc$/, /-primary\.xml$/, /\/pool\//]) {
        await host.mustRun('dnf', 'clean', 'all');
        change = path;
        const { status } = await host.run('dnf', '-y', 'install', 'kmod-camera');
        expect([path, status]).toEqual([path, 1]);
      }
      change = null;
      await dnf('install', 'kmod-camera');
    } finally {
      await writeFile(file, text);
      await relay.close();
    }
  });
});

describe('a host of zypper', () => {
  it('installs and removes what is published', async () => {
    await dnf('remove', 'kmod-camera*', 'kiln-modules-common');
    const from = join(host.root, 'etc/yum.repos.d');
    await mkdir(join(host.root, 'etc/zypp/repos.d'), { recursive: true });
    await mustRun('sh', ['-c', `cp ${from}/*.repo ${host.root}/etc/zypp/repos.d/`]);
    const zypper = (...args: string[]): Promise<string> =>
      host.mustRun('zypper', '--non-interactive', '--gpg-auto-import-keys', ...args);
    await zypper('refresh');
    await zypper('install', '--no-recommends', 'kmod-camera');
    expect(await indexed(NEWER)).toMatch(/^updates\/camera\/camera\.ko:/m);
    expect(await host.mustRun('rpm', '-V', modules(NEWER))).toBe('');
    await zypper('remove', '--clean-deps', 'kmod-camera');
    expect(await indexed(NEWER)).not.toMatch(/camera/);
  });
});
