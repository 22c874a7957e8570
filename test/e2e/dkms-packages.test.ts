import {
  appendFile,
  copyFile,
  mkdir,
  readdir,
  readFile,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises';
import { basename, join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { bareRoot, runInside } from '../machine/debian-root.ts';
import { debianPackage } from '../machine/debian.ts';
import { heldSource, letGo } from '../machine/held-build.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { ourPackages } from '../machine/packages.ts';
import { mustRun, run, type Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { until } from '../machine/until.ts';
import { addKernel } from '../machine/small-root.ts';

/** Debian's own `*-dkms` packages, unchanged, on a minimal Debian that has kiln-dkms and no compiler. */

const kiln = sharedKiln();
const PACKAGES = ['v4l2loopback-dkms', 'acpi-call-dkms'];
let root: string;
const dpkg = (...args: string[]): Promise<Ran> =>
  runInside(root, 'env', ['DEBIAN_FRONTEND=noninteractive', 'dpkg', ...args]);
const inRoot = (program: string, ...args: string[]): Promise<Ran> => runInside(root, program, args);
const bring = async (file: string): Promise<string> => {
  await copyFile(file, join(root, 'root', basename(file)));
  return `/root/${basename(file)}`;
};
const isThere = (path: string): Promise<boolean> =>
  stat(join(root, path)).then(
    () => true,
    () => false,
  );

beforeAll(async () => {
  root = join(await freshDirectory('dkms-packages'), 'root');
  await mustRun('cp', ['-a', await bareRoot(), root]);
  await addKernel(root, kiln.release);
  const ours = await ourPackages();
  const installed = await dpkg('-i', await bring(ours.kiln), await bring(ours.dkms));
  expect([installed.status, installed.stderr]).toEqual([0, '']);
  await mkdir(join(root, 'etc/kiln'), { recursive: true });
  const token = await kiln.newToken('dkms-packages', 'ci');
  await writeFile(join(root, 'etc/kiln/token'), `${token}\n`, { mode: 0o600 });
  const setup = ['setup', kiln.url, '--token-file', '/etc/kiln/token', '--trust-first-use'];
  expect((await inRoot('kiln', ...setup)).status).toBe(0);
});

describe('packages that depend on dkms', () => {
  const modules = (): string => join(root, 'lib/modules', kiln.release, 'updates/dkms');

  it('install as they are, their modules together at the end of the run', async () => {
    const files: string[] = [];
    for (const name of PACKAGES) files.push(await bring(await debianPackage(name)));
    const ran = await dpkg('-i', ...files);
    expect(ran.status).toBe(0);
    expect(ran.stdout).toMatch(/Processing triggers for kiln-dkms/);
    expect(`${ran.stdout}${ran.stderr}`.match(/^install /gm)).toHaveLength(1);
    expect((await readdir(modules())).sort()).toEqual(['acpi_call.ko', 'v4l2loopback.ko']);
    const { stdout } = await inRoot('dkms', 'status');
    expect(stdout.match(/: installed$/gm)).toHaveLength(2);
    const index = await readFile(join(root, 'lib/modules', kiln.release, 'modules.dep'), 'utf8');
    expect(index).toContain('updates/dkms/v4l2loopback.ko:');
  });

  it('bring no compiler and no headers', async () => {
    const { stdout } = await dpkg('--get-selections');
    expect(stdout).toMatch(/^kiln-dkms\s+install$/m);
    expect(stdout).not.toMatch(/^(gcc(-[0-9]+)?|make|linux-headers\S*|dkms)\s/m);
  });

  it('are built anew where their module is lost, by the timer’s command', async () => {
    expect((await inRoot('kiln', 'remove', 'acpi-call', '-k', kiln.release)).status).toBe(0);
    expect((await inRoot('kiln', 'autoinstall', '--all', '--hook')).status).toBe(0);
    expect((await readdir(modules())).sort()).toEqual(['acpi_call.ko', 'v4l2loopback.ko']);
  });

  it('leave nothing behind when they are purged', async () => {
    const ran = await dpkg('--purge', ...PACKAGES);
    expect([ran.status, ran.stderr]).toEqual([0, '']);
    expect(await isThere(`lib/modules/${kiln.release}/updates`)).toBe(false);
    expect(await readdir(join(root, 'var/lib/dkms'))).toEqual([]);
    expect((await inRoot('kiln', 'status')).stdout).toBe('nothing is installed by kiln\n');
  });

  it('come and go where power was lost while a version came into dkms’s tree, or went', async () => {
    const tree = join(root, 'var/lib/dkms/acpi-call');
    for (const path of ['1.2.2/build', '.kiln-new-1.2.2/build', '.kiln-gone-1.2.1/source'])
      await mkdir(join(tree, path), { recursive: true });
    const ran = await dpkg('-i', await bring(await debianPackage('acpi-call-dkms')));
    expect([ran.status, ran.stderr]).toEqual([0, expect.not.stringContaining('Error!')]);
    expect(await readdir(modules())).toEqual(['acpi_call.ko']);
    await mkdir(join(tree, '1.2.2', kiln.release, '.kiln-new-x86_64-a1'), { recursive: true });
    expect(await dpkg('--purge', 'acpi-call-dkms')).toMatchObject({ status: 0 });
    expect(await readdir(join(root, 'var/lib/dkms'))).toEqual([]);
  });

  it('are configured also while the service cannot be reached, and the timer finishes', async () => {
    const config = join(root, 'etc/kiln/config');
    const text = await readFile(config, 'utf8');
    await writeFile(
      config,
      `${text.replace(/^server = .*$/m, 'server = http://127.0.0.1:9')}\npatience = 0\n`,
    );
    const file = await bring(await debianPackage('v4l2loopback-dkms'));
    const ran = await dpkg('-i', file);
    expect(ran.status).toBe(0);
    expect((await dpkg('-s', 'v4l2loopback-dkms')).stdout).toMatch(
      /^Status: install ok installed$/m,
    );
    expect(await isThere(`lib/modules/${kiln.release}/updates`)).toBe(false);
    await writeFile(config, text);
    expect((await inRoot('kiln', 'autoinstall', '--all', '--hook')).status).toBe(0);
    expect(await readdir(modules())).toEqual(['v4l2loopback.ko']);
  });

  it('are installed where their source has no AUTOINSTALL, too, and then never by themselves', async () => {
    const config = join(root, 'etc/kiln/config');
    const text = await readFile(config, 'utf8');
    const autoinstall = (): Promise<Ran> => inRoot('kiln', 'autoinstall', '--all', '--hook');
    const isInstalled = async (): Promise<boolean> =>
      (await readdir(modules())).some((name) => name.startsWith('lime'));
    const away = text.replace(/^server = .*$/m, 'server = http://127.0.0.1:9');
    await writeFile(config, `${away}\npatience = 0\n`);
    // Nobody has its headers: for it the package waits on.
    await mkdir(join(root, 'lib/modules/6.0.0-1-amd64/kernel'), { recursive: true });
    const file = await bring(await debianPackage('lime-forensics-dkms'));
    expect(await dpkg('-i', file)).toMatchObject({ status: 0 });
    expect(await isInstalled()).toBe(false);
    await writeFile(config, text);
    await autoinstall();
    expect(await isInstalled()).toBe(true);
    const tree = join(root, 'var/lib/dkms/lime-forensics');
    const [version = ''] = (await readdir(tree)).filter((name) => !name.startsWith('kernel-'));
    expect(await readdir(join(tree, version, '.kiln-asked'))).toEqual(['6.0.0-1-amd64']);
    const named = ['-m', 'lime-forensics', '-v', version, '-k', kiln.release];
    expect(await inRoot('dkms', 'unbuild', ...named)).toMatchObject({ status: 0 });
    await autoinstall();
    expect(await isInstalled()).toBe(false);
    await rm(join(root, 'lib/modules/6.0.0-1-amd64'), { recursive: true });
    await autoinstall();
    expect(await isThere(`var/lib/dkms/lime-forensics/${version}/.kiln-asked`)).toBe(false);
    expect(await dpkg('--purge', 'lime-forensics-dkms')).toMatchObject({ status: 0 });
  });

  it('have builds that go on where the time of the package manager’s hook is over', async () => {
    const held = await heldSource('hooked_held');
    await mustRun('cp', ['-r', held, join(root, 'usr/src/hooked_held-1.0')]);
    await appendFile(join(root, 'usr/src/hooked_held-1.0/dkms.conf'), 'AUTOINSTALL=yes\n');
    expect(await inRoot('dkms', 'add', 'hooked_held/1.0')).toMatchObject({ status: 0 });
    const stateOf = async (): Promise<string | undefined> =>
      (await kiln.json<readonly BuildView[]>('list')).find(
        ({ source }) => source.name === 'hooked_held',
      )?.state;
    const hook = inRoot('timeout', '-s', 'TERM', '30', 'kiln', 'autoinstall', '--all', '--hook');
    await until('it is being built', async () => (await stateOf()) === 'building');
    const [ended, state] = [await hook, await stateOf()];
    await letGo(
      kiln.data,
      until('it is built', async () => (await stateOf()) === 'succeeded'),
    );
    expect([ended, state]).toEqual([
      expect.objectContaining({
        status: 124,
        stderr: expect.stringMatching(/ended before build [0-9a-f]{24} was, which goes on/),
      }),
      'building',
    ]);
    expect(await inRoot('dkms', 'remove', 'hooked_held/1.0', '--all')).toMatchObject({ status: 0 });
  });

  it('are built anew, by dpkg’s tools alone, of the source package that mkdsc makes', async () => {
    const digest = async (): Promise<string> =>
      digestOf(await readFile(join(modules(), 'v4l2loopback.ko')));
    const before = await digest();
    const [version = ''] = (await readdir(join(root, 'var/lib/dkms/v4l2loopback'))).filter(
      (name) => !name.startsWith('kernel-'),
    );
    const made = await inRoot('dkms', 'mkdsc', '-m', 'v4l2loopback', '-v', version);
    expect(made).toMatchObject({ status: 0, stdout: expect.stringMatching(/mkdsc completed/) });
    const home = join(root, 'var/lib/dkms/v4l2loopback', version, 'dsc');
    const [first, second] = [await freshDirectory('dsc'), await freshDirectory('dsc')];
    await mustRun('cp', ['-r', `${home}/.`, first]);
    await inRoot('dkms', 'mkdsc', '-m', 'v4l2loopback', '-v', version);
    await mustRun('cp', ['-r', `${home}/.`, second]);
    await mustRun('diff', ['-r', first, second]);
    const name = `v4l2loopback-dkms_${version}`;
    await mustRun('dpkg-source', ['--no-check', '-x', join(first, `${name}.dsc`), `${first}/tree`]);
    await mustRun('sh', ['-c', 'cd "$0" && dpkg-buildpackage -b -us -uc', `${first}/tree`]);
    const { stdout: words } = await run('lintian', [join(first, `${name}_all.deb`)]);
    expect(words.split('\n').filter((line) => line.startsWith('E:'))).toEqual([]);
    const ran = await dpkg('-i', await bring(join(first, `${name}_all.deb`)));
    expect([ran.status, ran.stderr]).toEqual([0, expect.not.stringContaining('rror')]);
    expect(await digest()).toBe(before);
  });

  it('stay where kiln-dkms goes: dkms itself would go on from its tree', async () => {
    const ran = await dpkg('--remove', '--force-depends', 'kiln-dkms');
    expect(ran.status).toBe(0);
    expect(await readdir(modules())).toEqual(['v4l2loopback.ko']);
    expect((await inRoot('kiln', 'status')).stdout).toBe('nothing is installed by kiln\n');
    const [link] = (await readdir(join(root, 'var/lib/dkms/v4l2loopback'))).filter((name) =>
      name.startsWith('kernel-'),
    );
    expect(link).toBe(`kernel-${kiln.release}-x86_64`);
    await rm(root, { recursive: true });
  });
});
