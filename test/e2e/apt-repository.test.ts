import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { readModuleFile } from '../../services/core/module/module-file.ts';
import type { RepositoriesView } from '../../services/core/protocol/repository.ts';
import { aptHost, strayPaths, type AptHost } from '../machine/apt-host.ts';
import { copyAptRoot } from '../machine/debian-root.ts';
import { releasesOf } from '../machine/debian.ts';
import { fewHeaders } from '../machine/few-headers.ts';
import { fewKernelPackage } from '../machine/few-kernel.ts';
import { serveFiles, type FileServer } from '../machine/file-server.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { freshDirectory, kbuildSource, moduleCode } from '../machine/make-source.ts';
import { ownKernel } from '../machine/own-kernel.ts';
import { makeArchive, type OwnArchive } from '../machine/own-archive.ts';
import { IS_THOROUGH } from '../machine/thorough.ts';
import { relayTo, spoil } from '../machine/relay.ts';
import { until } from '../machine/until.ts';

/** A Debian host that has nothing of Kiln's but its repository, and no tool but apt. */

let kiln: KilnService;
let older: string;
let newer: string;
let host: AptHost;
let debian: OwnArchive;
let served: FileServer;
let pristine: readonly string[];

const modules = (release: string): string => `camera-modules-${release}`;
const place = (release: string): string =>
  join(host.root, 'lib/modules', release, 'updates/camera/camera.ko');

/** The kernel that a host's archive has now, newer than that of Debian's own. */
const bringKernel = async (release: string, version: string): Promise<void> => {
  await debian.remove('linux-image-amd64');
  await debian.addFile(await fewKernelPackage(release));
  await debian.add({ name: 'linux-image-amd64', version, depends: `linux-image-${release}` }, {});
  await debian.publish();
};

beforeAll(async () => {
  [newer = '', older = ''] = await releasesOf('amd64');
  kiln = await startKiln(await freshDirectory('apt-repository'), { KILN_LOG_LEVEL: 'warn' });
  await pinToolchain(kiln);
  for (const release of [older, newer])
    await kiln.json('kernel', 'push', await fewHeaders(release));
  debian = await makeArchive('debian');
  served = await serveFiles(debian.directory);
  host = aptHost(await copyAptRoot('modules', 'bookworm', ['kmod', 'initramfs-tools', 'debsums']));
  await bringKernel(older, '9:6.1.1-1');
  await followKernels();
});
afterAll(async () => {
  await kiln.stop();
  await served.close();
});

/** Has the host follow the archive of kernels. */
const followKernels = async (): Promise<void> => {
  const key = await readFile(/^Signed-By: (.*)$/m.exec(debian.sources)?.[1] ?? '');
  await writeFile(join(host.root, 'etc/apt/keyrings/debian.gpg'), key);
  await writeFile(
    join(host.root, 'etc/apt/sources.list.d/kernels.sources'),
    `Types: deb\nURIs: ${served.url}\nSuites: ./\nSigned-By: /etc/apt/keyrings/debian.gpg\n`,
  );
  pristine = await strayPaths(host.root);
};
const push = async (version: string): Promise<void> => {
  const source = await kbuildSource('camera', moduleCode(`MODULE_VERSION("${version}");`));
  await kiln.json('source', 'push', source, '--name', 'camera', '--version', version);
};
const build = (release: string): Promise<BuildView> =>
  kiln.json<BuildView>('build', 'camera', '-k', release);
/** The packages of a suite, once its index has all that are published. */
const packagesOf = async (suite: string): Promise<readonly string[]> => {
  const channel = suite.endsWith('-staging') ? 'staging' : 'stable';
  const { repositories } = await kiln.json<RepositoriesView>('repo', 'list');
  const found = repositories.find((each) => each.channel === channel);
  expect(found?.problem ?? null).toBeNull();
  if (found?.isCurrent !== true) return [];
  return found.packages.map(({ name, version }) => `${name} ${version}`);
};
const isThere = (suite: string, name: RegExp): Promise<void> =>
  until(`${suite} has ${name}`, async () =>
    (await packagesOf(suite)).some((each) => name.test(each)),
  );
const mustApt = async (...args: string[]): Promise<string> => {
  const { status, stdout, stderr } = await host.apt(...args);
  if (status !== 0) throw new Error(`apt-get ${args.join(' ')}: ${stdout}${stderr}`);
  return `${stdout}${stderr}`;
};
const follow = async (suite: string): Promise<void> => {
  const { stdout } = await kiln.kiln('repo', 'sources', suite);
  await writeFile(join(host.root, 'etc/apt/sources.list.d/kiln.sources'), stdout);
};
const indexed = (release: string): Promise<string> =>
  readFile(join(host.root, 'lib/modules', release, 'modules.dep'), 'utf8');
const times = (words: string, pattern: RegExp): number => words.match(pattern)?.length ?? 0;

describe('a source that is published', () => {
  it('comes into staging as it is built, and to all when it is promoted', async () => {
    await push('1.0');
    await kiln.json('repo', 'publish', 'camera');
    await build(older);
    await isThere('own-staging', /^camera-modules-amd64 /);
    expect(await packagesOf('own')).not.toContainEqual(expect.stringMatching(/^camera/));
    await kiln.json('repo', 'promote');
    await isThere('own', /^camera-modules-amd64 /);
    expect((await packagesOf('own')).map((each) => each.split(' ')[0])).toEqual([
      modules(older),
      'camera-modules-amd64',
      'kiln-modules-common',
    ]);
  });

  it('is installed by apt with the kernel, indexed, and in the initramfs, once', async () => {
    await follow('own');
    await mustApt('update');
    const words = await mustApt('install', 'linux-image-amd64', 'camera-modules-amd64');
    const [made] = await kiln.json<readonly BuildView[]>('list');
    expect(digestOf(await readFile(place(older)))).toBe(made?.modules[0]?.signed);
    expect(await indexed(older)).toMatch(/^updates\/camera\/camera\.ko:/m);
    expect(times(words, /update-initramfs: Generating/g)).toBe(1);
    expect((await host.run('debsums', modules(older), 'kiln-modules-common')).status).toBe(0);
    expect((await host.run('dpkg', '--verify', modules(older))).stdout).toBe('');
  });

  it('comes with the next kernel in the same run, and stays for the one before', async () => {
    await build(newer);
    await until('the next kernel’s modules are there', async () => {
      const there = await packagesOf('own-staging');
      const version = there.find((each) => each.startsWith(`${modules(newer)} `))?.split(' ')[1];
      if (version === undefined) return false;
      // Who upgrades the kernel just then is to have both, or neither.
      expect(there).toContain(`camera-modules-amd64 ${version}`);
      return true;
    });
    await kiln.json('repo', 'promote', 'camera');
    await isThere('own', new RegExp(`^${modules(newer).replaceAll('.', String.raw`\.`)} `));
    await bringKernel(newer, '9:6.1.2-1');
    await mustApt('update');
    const words = await mustApt('dist-upgrade');
    for (const release of [older, newer]) {
      expect(await indexed(release)).toMatch(/^updates\/camera\/camera\.ko:/m);
      expect((await host.run('dpkg', '--verify', modules(release))).stdout).toBe('');
    }
    expect(times(words, /update-initramfs: Generating/g)).toBe(1);
  });

  it('is upgraded, and goes back to the version before', async () => {
    await push('1.1');
    await build(older);
    await build(newer);
    await isThere('own-staging', /^camera-modules-amd64 1\.1-/);
    await kiln.json('repo', 'promote', 'camera');
    await isThere('own', /^camera-modules-amd64 1\.1-/);
    const before = await readFile(place(newer));
    await mustApt('update');
    const words = await mustApt('dist-upgrade');
    expect(await readFile(place(newer))).not.toEqual(before);
    // Once for each of both kernels.
    expect(times(words, /update-initramfs: Generating/g)).toBe(2);
    const old = (await packagesOf('own')).find((each) => each.startsWith(`${modules(newer)} 1.0-`));
    const version = old?.split(' ')[1] ?? '';
    await mustApt('install', '--allow-downgrades', `${modules(newer)}=${version}`);
    expect(await readFile(place(newer))).toEqual(before);
  });

  it('leaves nothing behind when it is purged with its kernels', async () => {
    await mustApt('purge', modules(older), 'camera-modules-amd64');
    expect(await indexed(older)).not.toMatch(/camera/);
    // The trigger's own package goes in the same run.
    await mustApt('purge', modules(newer), 'kiln-modules-common');
    expect(await indexed(newer)).not.toMatch(/camera/);
    await mustApt('purge', 'linux-image-amd64', `linux-image-${older}`);
    await mustApt('purge', `linux-image-${newer}`);
    expect(await strayPaths(host.root)).toEqual(pristine);
  });
});

describe('a repository', () => {
  it('is refused by apt where a package, a list or the signature was changed', async () => {
    let change: RegExp | null = null;
    const relay = await relayTo(kiln.url, (path, bytes) => {
      if (change?.test(path) === true) spoil(bytes);
    });
    const sources = join(host.root, 'etc/apt/sources.list.d/kiln.sources');
    const text = await readFile(sources, 'utf8');
    try {
      await writeFile(sources, text.replace(kiln.url, relay.url));
      await mustApt('update');
      await bringKernel(newer, '9:6.1.3-1');
      await mustApt('clean');
      change = /\/pool\/camera\//;
      const install = await host.apt('install', 'camera-modules-amd64');
      expect([install.status, install.stderr]).toEqual([100, expect.stringMatching(/Hash Sum/)]);
      for (const path of [/\/InRelease$/, /\/Packages$|\/by-hash\//]) {
        await mustEmptyLists();
        change = path;
        const update = await host.apt('update', '--error-on=any');
        expect(update.status).toBe(100);
        expect(update.stderr).toMatch(/BADSIG|NODATA|Hash Sum|is not signed|Clearsigned/);
      }
      change = null;
      await mustApt('update', '--error-on=any');
    } finally {
      await writeFile(sources, text);
      await relay.close();
    }
  });

  it('is never found half changed, however often it changes meanwhile', async () => {
    let isOver = false;
    let changes = 0;
    const changing = (async () => {
      for (; !isOver; changes += 1) {
        await kiln.kiln('repo', changes % 2 === 0 ? 'unpublish' : 'publish', 'camera');
        if (changes % 2 === 1) await kiln.kiln('repo', 'promote');
      }
    })();
    const alone = ['-o', 'Dir::Etc::sourcelist=sources.list.d/kiln.sources'];
    for (let update = 0; update < 12; update += 1)
      await mustApt('update', '--error-on=any', ...alone, '-o', 'Dir::Etc::sourceparts=-');
    isOver = true;
    await changing;
    expect(changes).toBeGreaterThan(12);
  });

  it('has nothing of what was withdrawn, and nothing new of what is held', async () => {
    await kiln.json('repo', 'publish', 'camera', '--to', 'stable');
    await isThere('own', /^camera-modules-amd64 1\.1-/);
    await kiln.json('withdraw', 'source', 'camera/1.1', '--reason', 'it crashes');
    await until('1.1 has gone', async () => {
      const there = await packagesOf('own');
      return there.length > 0 && !there.some((each) => / 1\.1-/.test(each));
    });
    expect(await packagesOf('own')).toContain('kiln-modules-common 3');
    await kiln.json('repo', 'hold', 'camera');
    await push('1.2');
    await build(newer);
    await new Promise((resolve) => setTimeout(resolve, 3000));
    expect(await packagesOf('own')).not.toContainEqual(expect.stringMatching(/ 1\.2-/));
    expect(await packagesOf('own')).toContain('kiln-modules-common 3');
    await kiln.json('repo', 'hold', 'camera', '--undo');
    await isThere('own', / 1\.2-/);
  });

  it('has a name of its own for a kernel of one’s own, whose modules are beside those of others', async () => {
    const own = await ownKernel(await fewHeaders(newer), newer);
    await kiln.json('kernel', 'push', '--root', own.root, '-k', own.release);
    await build(newer);
    await build(own.release);
    await isThere('own', /^camera-modules-forge /);
    // As make bindeb-pkg packs it.
    const home = `lib/modules/${own.release}`;
    await debian.add(
      { name: `linux-image-${own.release}`, version: '6.1.0-1' },
      { [`${home}/modules.order`]: '', [`${home}/modules.builtin`]: '' },
    );
    await debian.publish();
    await mustApt('update');
    await mustApt('install', 'linux-image-amd64', 'camera-modules-amd64');
    await mustApt('install', `linux-image-${own.release}`, 'camera-modules-forge');
    const found = new Set<string>();
    for (const release of [newer, own.release]) {
      expect(await indexed(release)).toMatch(/^updates\/camera\/camera\.ko:/m);
      const { modinfo } = readModuleFile(await readFile(place(release)));
      found.add(modinfo.find(([key]) => key === 'vermagic')?.[1].split(' ', 1)[0] ?? '');
    }
    expect([...found]).toEqual([newer, own.release]);
    await mustApt('purge', `linux-image-${own.release}`, 'camera-modules-forge', '--autoremove');
    expect(await indexed(newer)).toMatch(/^updates\/camera\/camera\.ko:/m);
  });

  it('tells who may do what, and what there is', async () => {
    const client = await kiln.json<{ secret: string }>(
      'token',
      'create',
      'host',
      '--role',
      'client',
    );
    const file = join(await freshDirectory('token'), 'token');
    await writeFile(file, client.secret, { mode: 0o600 });
    const refused = await kiln.kiln('repo', 'publish', 'camera', '--token-file', file);
    expect(refused.status).toBe(4);
    expect((await kiln.kiln('repo', 'publish', 'nothing')).stderr).toMatch(
      /there is no source nothing/,
    );
    expect((await kiln.kiln('repo', 'sources', 'nowhere')).stderr).toMatch(
      /no deb repository nowhere is served; kiln repo list/,
    );
    expect((await kiln.kiln('repo', 'sources', 'own', '--format', 'deb,rpm')).stderr).toMatch(
      /give one format/,
    );
    expect((await kiln.kiln('repo', 'list')).stdout).toMatch(/^camera +deb +stable +/m);
    for (const path of ['deb/dists/own/../../x', 'deb/pool/camera/x.deb', 'zip/dists/own/Release'])
      expect((await fetch(`${kiln.url}/repo/${path}`)).status).toBe(404);
  });
});

// Its apt has another program verify signatures.
(IS_THOROUGH ? describe : describe.skip)('a host of Debian 13', () => {
  it('installs with the kernel, and loses all of it', async () => {
    host = aptHost(await copyAptRoot('modules', 'trixie', ['kmod', 'initramfs-tools', 'debsums']));
    await followKernels();
    await follow('own');
    await mustApt('update', '--error-on=any');
    await mustApt('install', 'linux-image-amd64', 'camera-modules-amd64');
    expect(await indexed(newer)).toMatch(/^updates\/camera\/camera\.ko:/m);
    expect((await host.run('debsums', modules(newer))).status).toBe(0);
    await mustApt('purge', modules(newer), 'camera-modules-amd64', 'kiln-modules-common');
    expect(await indexed(newer)).not.toMatch(/camera/);
    await mustApt('purge', 'linux-image-amd64', `linux-image-${newer}`);
    // The newer depmod writes a file that Debian 12's package of a kernel does not know, and so leaves with its directory.
    const left = /^usr\/lib\/modules(\/[^/]+(\/modules\.weakdep)?)?$/;
    const stray = await strayPaths(host.root);
    expect(stray.filter((path) => !left.test(path))).toEqual(pristine);
  });
});

/** Forgets what apt knows of Kiln's repository. */
const mustEmptyLists = async (): Promise<void> => {
  const lists = join(host.root, 'var/lib/apt/lists');
  for (const name of await readdir(lists))
    if (name.includes('_repo_deb_')) await rm(join(lists, name));
};
