import { copyFile, lstat, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { hexOf } from '../../services/core/digest.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import type { PackageView } from '../../services/core/protocol/package.ts';
import type { RepositoriesView } from '../../services/core/protocol/repository.ts';
import { readDatabase } from '../../services/storage/database.ts';
import { fromJson } from '../../services/storage/json-text.ts';
import { releasesOf } from '../machine/debian.ts';
import { fewHeaders } from '../machine/few-headers.ts';
import { kernelDevel } from '../machine/kernel-devel.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { DKMS_TOOLCHAIN } from '../machine/places.ts';
import { dkmsSource, freshDirectory, kbuildSource, moduleCode } from '../machine/make-source.ts';
import { ownKernel } from '../machine/own-kernel.ts';
import { packRpm } from '../machine/pack-plan.ts';
import { kernelDefault, rpmHost, type KernelKabi, type RpmHost } from '../machine/rpm-host.ts';
import { mustRun, run, type Ran } from '../machine/run.ts';
import { until } from '../machine/until.ts';
import { recordIn } from '../machine/record-place.ts';

/** Hosts that have nothing of Kiln's but a repository of packages that track the kABI, and never the kernel that these were built for. */

const BUILT = '6.1.0-150600.23.25-default';
const BROKEN = '6.1.0-150700.1.1-default';
const AGREEING = '6.1.0-150600.23.42-default';
const NEXT = '6.1.0-150600.23.60-default';
const PACKAGE = 'camera-kmp-default';
const CODE = moduleCode('int camera(void);\nint camera(void) { return pr_info("seen\\n"); }');

let kiln: KilnService;
/** The packages, as files. */
let out: string;
let made: readonly PackageView[];
/** What the package needs of a kernel. */
let kabi: KernelKabi;

const isPublished = async (): Promise<boolean> => {
  const { repositories } = await kiln.json<RepositoriesView>('repo', 'list');
  const found = repositories.find(({ channel }) => channel === 'stable');
  expect(found?.problem ?? null).toBeNull();
  return found?.isCurrent === true && found.packages.some(({ name }) => name === PACKAGE);
};

/** What a package says that it needs, in its list for hosts. */
const kabiIn = async (file: string): Promise<KernelKabi> => {
  const unpacked = await freshDirectory('unpacked');
  await mustRun('sh', ['-c', 'cd "$0" && rpm2cpio "$1" | cpio -id --quiet', unpacked, file]);
  const text = await readFile(join(unpacked, 'usr/lib/kiln-modules/kabi', PACKAGE), 'utf8');
  const symbols = [...text.matchAll(/^0x([0-9a-f]{8}) (.+)$/gm)];
  return {
    vermagic: /^vermagic (.+)$/m.exec(text)?.[1] ?? '',
    symbols: Object.fromEntries(symbols.map(([, crc = '', symbol = '']) => [symbol, crc])),
  };
};

beforeAll(async () => {
  const [debian = ''] = await releasesOf('amd64');
  kiln = await startKiln(await freshDirectory('kmp-repository'), { KILN_LOG_LEVEL: 'warn' });
  await pinToolchain(kiln);
  await pinToolchain(kiln, DKMS_TOOLCHAIN);
  const { tree } = await ownKernel(await fewHeaders(debian), debian, BUILT);
  await kiln.json('kernel', 'push', await kernelDevel(tree, BUILT));
  const source = await kbuildSource('camera', CODE);
  await kiln.json('source', 'push', source, '--name', 'camera', '--version', '1.0');
  const { id } = await kiln.json<BuildView>('build', 'camera', '-k', BUILT);
  out = await freshDirectory('out');
  made = await kiln.json('package', id, '--format', 'kmp', '-o', out);
  const file = (await readdir(out)).find((name) => name.startsWith(PACKAGE)) ?? '';
  kabi = await kabiIn(join(out, file));
  await kiln.json('repo', 'publish', 'camera', '--to', 'stable', '--format', 'kmp');
  await until(`a package ${PACKAGE}`, isPublished);
});
afterAll(() => kiln.stop());

describe('a package that tracks the kABI', () => {
  it('is one for all kernels, needs the symbols of its module, and is fine with rpmlint', async () => {
    expect(made.map(({ name, version }) => `${name} ${version}`)).toEqual([
      `${PACKAGE} 1.0-0_k6.1.0_150600.23.25.1`,
      expect.stringMatching(/^kiln-modules-common /),
    ]);
    expect(kabi.vermagic).toContain('modversions');
    expect(Object.keys(kabi.symbols)).toEqual(expect.arrayContaining(['_printk', 'module_layout']));
    for (const file of await readdir(out)) {
      const { stdout } = await run('rpmlint', [join(out, file)]);
      const errors = stdout.split('\n').filter((line) => / E: /.test(line));
      // What a repository has is signed.
      expect(errors.filter((line) => !line.endsWith('E: no-signature'))).toEqual([]);
    }
  });

  it('has the same bytes when it is packed in another place', async () => {
    const db = await readDatabase(await recordIn(kiln.data));
    const rows = await db.selectFrom('packages').selectAll().where('name', '=', PACKAGE).execute();
    await db.destroy();
    expect(rows).toHaveLength(1);
    for (const row of rows) {
      const plan = fromJson(row.plan);
      const there = await packRpm(plan, (digest) => {
        const hex = hexOf(digest);
        return readFile(join(kiln.data, 'blobs', hex.slice(0, 2), hex));
      });
      expect(await readFile(there)).toEqual(await readFile(join(out, plan.file)));
    }
  });
});

describe('a source whose modules are for one kernel each', () => {
  it('is published as rpm all the same, and is told to have no kmp', async () => {
    await kiln.json('source', 'push', await dkmsSource('fixed', 'NO_WEAK_MODULES="yes"'));
    const { id } = await kiln.json<BuildView>('build', 'fixed', '-k', BUILT);
    const asked = await kiln.kiln('package', id, '--format', 'kmp');
    expect([asked.status, asked.stderr]).toEqual([
      expect.any(Number),
      expect.stringMatching(/no kmp can be made of fixed, .*NO_WEAK_MODULES/),
    ]);
    await kiln.json('repo', 'publish', 'fixed', '--to', 'stable', '--format', 'kmp,rpm');
    await until('an rpm of it, and why there is no kmp', async () => {
      const { repositories, publications } = await kiln.json<RepositoriesView>('repo', 'list');
      const { problem } = publications.find(({ source }) => source === 'fixed') ?? {};
      const packages = repositories.flatMap((each) =>
        each.format === 'rpm' && each.isCurrent ? each.packages : [],
      );
      return (
        problem?.includes('NO_WEAK_MODULES') === true &&
        packages.some(({ name }) => name === 'kmod-fixed-default')
      );
    });
    await kiln.json('repo', 'unpublish', 'fixed');
  });
});

/** Installs a kernel beside those that there are, as a distribution does. */
const addKernel = async (
  host: RpmHost,
  release: string,
  others: Readonly<Record<string, string>> = {},
): Promise<void> => {
  const file = `${release}.rpm`;
  const symbols = { ...kabi.symbols, ...others };
  await copyFile(await kernelDefault(release, { ...kabi, symbols }), join(host.root, 'root', file));
  await host.mustRun('rpm', '-i', '--oldpackage', `/root/${file}`);
};
/** Tells a host of the repository. */
const follow = async ({ root, mustRun: mustRunThere }: RpmHost): Promise<void> => {
  const { stdout: repo } = await kiln.kiln('repo', 'sources', 'own', '--format', 'kmp');
  for (const place of ['etc/yum.repos.d', 'etc/zypp/repos.d', 'etc/pki/rpm-gpg'])
    await mkdir(join(root, place), { recursive: true });
  for (const place of ['yum.repos.d', 'zypp/repos.d'])
    await writeFile(join(root, 'etc', place, 'kiln.repo'), repo);
  const { stdout: key } = await kiln.kiln('repo', 'key');
  await writeFile(join(root, 'etc/pki/rpm-gpg/RPM-GPG-KEY-kiln'), key);
  await mustRunThere('rpm', '--import', '/etc/pki/rpm-gpg/RPM-GPG-KEY-kiln');
};
/** Where modprobe would find the module on a kernel. */
const found = (host: RpmHost, release: string): Promise<Ran> =>
  host.run('modinfo', '-k', release, '-F', 'filename', 'camera');

describe.each([
  ['dnf', 'makecache', ['-y']],
  ['zypper', 'refresh', ['--non-interactive', '--gpg-auto-import-keys']],
] as const)('a host of %s', (manager, refresh, options) => {
  let host: RpmHost;
  const manage = (...args: readonly string[]): Promise<Ran> =>
    host.run(manager, ...options, ...args);
  const mustManage = (...args: readonly string[]): Promise<string> =>
    host.mustRun(manager, ...options, ...args);

  beforeAll(async () => {
    host = await rpmHost();
    await follow(host);
    await mustManage(refresh);
    await addKernel(host, BROKEN, { _printk: '00000001' });
  });

  it('is refused the package where its kernel has another CRC of one symbol', async () => {
    const { status, stdout, stderr } = await manage('install', PACKAGE);
    expect(status).not.toBe(0);
    expect(stdout + stderr).toMatch(/nothing provides '?ksym\(default:_printk\)/);
  });

  it('takes it with a kernel that agrees, which finds the module', async () => {
    await addKernel(host, AGREEING);
    await mustManage('install', PACKAGE);
    expect(await host.mustRun('rpm', '-V', PACKAGE)).toBe('');
    expect((await found(host, AGREEING)).stdout.trim()).toBe(
      `/lib/modules/${AGREEING}/weak-updates/camera/camera.ko`,
    );
    expect((await found(host, BROKEN)).status).not.toBe(0);
  });

  it('has the module for the next kernel by that alone', async () => {
    await addKernel(host, NEXT, { more: '00000001' });
    expect((await found(host, NEXT)).status).toBe(0);
  });

  it('loses it with the package, which leaves nothing behind', async () => {
    await mustManage('remove', PACKAGE);
    for (const release of [AGREEING, NEXT]) {
      expect((await found(host, release)).status).not.toBe(0);
      const links = join(host.root, 'lib/modules', release, 'weak-updates');
      expect(await lstat(links).catch(() => null)).toBeNull();
    }
    expect(await readdir(join(host.root, 'lib/modules'))).not.toContain(BUILT);
  });
});
