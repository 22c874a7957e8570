import { chmod, chown, mkdir, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { makeDkmsHost } from '../machine/dkms-host.ts';
import { moduleCode, writeTree } from '../machine/make-source.ts';
import { mustRun } from '../machine/run.ts';
import type { ScratchHost } from '../machine/scratch-host.ts';
import { sharedKiln } from '../machine/shared.ts';

/** Kiln's dkms on a host without a compiler: what people and packages do with dkms, and what Kiln says of it. */

const kiln = sharedKiln();
let host: ScratchHost;
const at = (path: string): string => join(host.root, path);
const isThere = (path: string): Promise<boolean> =>
  stat(at(path)).then(
    () => true,
    () => false,
  );

/** Puts a source into the host's /usr/src, as a package would. */
const bring = async (
  name: string,
  conf = '',
  files: Readonly<Record<string, string>> = {},
): Promise<void> => {
  const tree = await writeTree(name, {
    'dkms.conf': `PACKAGE_NAME="${name}"
PACKAGE_VERSION="1.0"
BUILT_MODULE_NAME[0]="${name}"
DEST_MODULE_LOCATION[0]="/kernel/extra"
AUTOINSTALL="yes"
${conf}
`,
    Kbuild: `obj-m := ${name}.o\n`,
    [`${name}.c`]: moduleCode(`MODULE_VERSION("1.0"); /* ${name} */`),
    ...files,
  });
  await mustRun('cp', ['-r', tree, at(`usr/src/${name}-1.0`)]);
  await mustRun('chmod', ['-R', 'u=rwX,go=rX', at(`usr/src/${name}-1.0`)]);
};

beforeAll(async () => {
  host = await makeDkmsHost(kiln, await kiln.newToken('dkms-host', 'ci'));
});

describe('dkms', () => {
  const built = (): string => `var/lib/dkms/first/1.0/${host.release}/x86_64`;

  it('adds, builds and installs a source, and both faces say so', async () => {
    await bring('first');
    const ran = await host.run('dkms', 'install', 'first/1.0', '-k', host.release);
    expect([ran.status, ran.stderr]).toEqual([0, '']);
    expect(ran.stdout).toMatch(
      /^Creating symlink \/var\/lib\/dkms\/first\/1\.0\/source -> \/usr\/src\/first-1\.0$/m,
    );
    expect(ran.stdout).toContain(
      `Installing /lib/modules/${host.release}/updates/dkms/first.ko\nRunning depmod... done.\n`,
    );
    expect((await host.run('dkms', 'status')).stdout).toBe(
      `first/1.0, ${host.release}, x86_64: installed\n`,
    );
    expect((await host.run('kiln', 'status')).stdout).toMatch(/first\/1\.0 +installed +signed/);
    expect((await host.run('kiln', 'verify')).status).toBe(0);
    expect(await readFile(at(`lib/modules/${host.release}/modules.dep`), 'utf8')).toContain(
      'updates/dkms/first.ko:',
    );
  });

  it('knows the kernel’s options where there are no headers: a dkms.conf may ask for them there', async () => {
    const config = join(kiln.headers, 'usr/src', `linux-headers-${host.release}`, '.config');
    await mkdir(at('boot'), { recursive: true });
    await mustRun('cp', [config, at(`boot/config-${host.release}`)]);
    await bring(
      'asks-config',
      'grep -q "^CONFIG_I2C=[ym]$" "$kernel_source_dir/.config" || BUILD_EXCLUSIVE_ARCH="^none$"',
    );
    const ran = await host.run('dkms', 'install', 'asks-config/1.0', '-k', host.release);
    expect([ran.status, ran.stderr]).toEqual([0, '']);
    expect((await host.run('dkms', 'remove', 'asks-config/1.0', '--all')).status).toBe(0);
    await rm(at(`boot/config-${host.release}`));
  });

  it('leaves what others read: the module, the log, and the link to the installed version', async () => {
    expect(await readFile(at(`${built()}/module/first.ko`))).toEqual(
      await readFile(at(`lib/modules/${host.release}/updates/dkms/first.ko`)),
    );
    expect(await readFile(at(`${built()}/log/make.log`), 'utf8')).toMatch(
      /^DKMS \(dkms-[0-9.]+\) make\.log for first\/1\.0 for kernel \S+ \(x86_64\)\n.*\n\nBuilding module\(s\)\n# command: make /,
    );
    expect(await readlink(at(`var/lib/dkms/first/kernel-${host.release}-x86_64`))).toBe(
      `1.0/${host.release}/x86_64`,
    );
  });

  it('has nothing installed where kiln removed it, and the module still built', async () => {
    expect((await host.run('kiln', 'remove', 'first', '-k', host.release)).status).toBe(0);
    expect((await host.run('dkms', 'status', 'first')).stdout).toBe(
      `first/1.0, ${host.release}, x86_64: built\n`,
    );
    expect(await isThere(`lib/modules/${host.release}/updates/dkms`)).toBe(false);
  });

  it('installs what is built while the service cannot be reached, and nothing else', async () => {
    const config = await readFile(at('etc/kiln/config'), 'utf8');
    await writeFile(
      at('etc/kiln/config'),
      `${config.replace(/^server = .*$/m, 'server = http://127.0.0.1:9')}\npatience = 0\n`,
    );
    try {
      const ran = await host.run('dkms', 'install', 'first/1.0', '-k', host.release);
      expect([ran.status, ran.stderr]).toEqual([0, '']);
      await bring('unreached');
      const other = await host.run('dkms', 'install', 'unreached/1.0', '-k', host.release);
      expect([other.status, other.stderr]).toEqual([
        5,
        expect.stringMatching(/Error! .*127\.0\.0\.1:9/),
      ]);
      expect((await host.run('dkms', 'status', 'unreached')).stdout).toBe('unreached/1.0: added\n');
    } finally {
      await writeFile(at('etc/kiln/config'), config);
    }
    expect((await host.run('dkms', 'remove', 'unreached/1.0', '--all')).status).toBe(0);
  });

  it('makes packages of what is built, as dkms 2 did, by the service', async () => {
    const ran = await host.run('dkms', 'mkdeb', 'first/1.0', '-k', host.release);
    expect([ran.status, ran.stderr]).toEqual([0, '']);
    const written = [...ran.stdout.matchAll(/^Wrote: (.*)$/gm)].map(([, file]) => file ?? '');
    expect(written[0]).toMatch(/^\/var\/lib\/dkms\/first\/1\.0\/deb\/first-modules-.*\.deb$/);
    const listed = await mustRun('dpkg-deb', ['-c', at(written[0]?.slice(1) ?? '')]);
    expect(listed).toContain(`./lib/modules/${host.release}/updates/first/first.ko`);
    const kmp = await host.run('dkms', 'mkkmp', 'first/1.0', '-k', host.release);
    // The toolchain that is pinned here has no rpm.
    expect([kmp.status, kmp.stderr]).toEqual([
      expect.any(Number),
      expect.stringMatching(/has rpm 4\.16, which pack a package of the format kmp/),
    ]);
    expect((await host.run('dkms', 'mkrpm', 'nothing/1.0')).stderr).toContain(
      'The module/version combo: nothing/1.0 is not located in the DKMS tree.',
    );
  });

  it('refuses to install what somebody changed in its tree after it was built', async () => {
    expect((await host.run('dkms', 'uninstall', 'first/1.0', '-k', host.release)).status).toBe(0);
    const module = at(`${built()}/module/first.ko`);
    const bytes = await readFile(module);
    await writeFile(module, Buffer.concat([bytes.subarray(0, -1), Buffer.from([0])]));
    const ran = await host.run('dkms', 'install', 'first/1.0', '-k', host.release);
    expect([ran.status !== 0, ran.stderr]).toEqual([
      true,
      expect.stringMatching(/other bytes than were built/),
    ]);
    expect(await isThere(`lib/modules/${host.release}/updates/dkms/first.ko`)).toBe(false);
    expect((await host.run('dkms', 'remove', 'first/1.0', '--all')).status).toBe(0);
    expect(await isThere('var/lib/dkms/first')).toBe(false);
  });
});

describe('a source’s scripts', () => {
  const script = '#!/bin/sh\necho "$0 $*" >>/var/log/scripts\n';
  const hooks = ['POST_ADD', 'PRE_INSTALL', 'POST_INSTALL', 'POST_REMOVE']
    .map((name) => `${name}="hook.sh ${name}"`)
    .join('\n');

  it('run on the host, by dkms, where the source is root’s own', async () => {
    await bring('hooked', hooks, { 'hook.sh': script });
    await chmod(at('usr/src/hooked-1.0/hook.sh'), 0o755);
    expect((await host.run('dkms', 'install', 'hooked/1.0', '-k', host.release)).status).toBe(0);
    expect((await host.run('dkms', 'uninstall', 'hooked/1.0', '-k', host.release)).status).toBe(0);
    const source = '/var/lib/dkms/hooked/1.0/source/hook.sh';
    expect(await readFile(at('var/log/scripts'), 'utf8')).toBe(
      ['POST_ADD', 'PRE_INSTALL', 'POST_INSTALL', 'POST_REMOVE']
        .map((name) => `${source} ${name}\n`)
        .join(''),
    );
  });

  it('are never run by kiln install, which says so', async () => {
    await rm(at('var/log/scripts'));
    const ran = await host.run('kiln', 'install', '/usr/src/hooked-1.0', '-k', host.release);
    expect([ran.status, ran.stderr]).toEqual([
      0,
      expect.stringMatching(
        /hooked has scripts for hosts \(POST_ADD, PRE_INSTALL, POST_INSTALL, POST_REMOVE\), which kiln install never runs/,
      ),
    ]);
    expect(await isThere('var/log/scripts')).toBe(false);
    expect((await host.run('kiln', 'remove', 'hooked', '-k', host.release)).status).toBe(0);
    expect((await host.run('dkms', 'remove', 'hooked/1.0', '--all')).status).toBe(0);
  });

  it.each([
    ['dkms.conf is somebody else’s', 'dkms.conf', 'owner'],
    ['the directory is open to a group', '.', 'mode'],
  ])('and its dkms.conf are not run where %s', async (_, name, how) => {
    await bring('strange', 'touch /evaluated');
    const place = at(join('usr/src/strange-1.0', name));
    if (how === 'owner') await chown(place, 1000, 1000);
    else await chmod(place, 0o775);
    const ran = await host.run('dkms', 'add', 'strange/1.0');
    expect([ran.status, ran.stderr]).toEqual([
      8,
      expect.stringMatching(/could be changed by somebody else than root/),
    ]);
    expect(await isThere('evaluated')).toBe(false);
    await rm(at('usr/src/strange-1.0'), { recursive: true });
  });
});

describe('a source that nobody vouches for', () => {
  it('is built, and dkms says why it is not signed and not installed', async () => {
    const other = await makeDkmsHost(kiln, await kiln.newToken('dkms-client', 'client'));
    const tree = await writeTree('unknown', {
      'dkms.conf':
        'PACKAGE_NAME="unknown"\nPACKAGE_VERSION="1.0"\nBUILT_MODULE_NAME[0]="unknown"\nDEST_MODULE_LOCATION[0]="/extra"\n',
      Kbuild: 'obj-m := unknown.o\n',
      'unknown.c': moduleCode('/* unknown */'),
    });
    await mustRun('cp', ['-r', tree, join(other.root, 'usr/src/unknown-1.0')]);
    await mustRun('chmod', ['-R', 'u=rwX,go=rX', join(other.root, 'usr/src/unknown-1.0')]);
    const made = await other.run('dkms', 'build', 'unknown/1.0', '-k', other.release);
    expect([made.status, made.stdout]).toEqual([
      0,
      expect.stringContaining(
        'The modules are not signed: the source was neither pushed by ci or an admin nor verified',
      ),
    ]);
    const ran = await other.run('dkms', 'install', 'unknown/1.0', '-k', other.release);
    expect([ran.status !== 0, ran.stderr]).toEqual([
      true,
      expect.stringMatching(/allow-unsigned = yes/),
    ]);
    await writeFile(join(other.root, 'etc/kiln/config'), 'allow-unsigned = yes\n', { flag: 'a' });
    expect((await other.run('dkms', 'install', 'unknown/1.0', '-k', other.release)).status).toBe(0);
  });
});

describe('kiln autoinstall', () => {
  it('brings all that dkms has to a kernel in one transaction, and takes it away with the kernel', async () => {
    await bring('one');
    await bring('two');
    await bring('left', 'AUTOINSTALL=""');
    for (const name of ['one', 'two', 'left'])
      expect((await host.run('dkms', 'add', `${name}/1.0`)).status).toBe(0);
    const ran = await host.run('kiln', 'autoinstall', '--hook', '-k', host.release);
    expect(ran.status).toBe(0);
    expect(ran.stderr.match(/^install /gm)).toHaveLength(1);
    expect((await host.run('dkms', 'status')).stdout).toBe(
      `left/1.0: added\none/1.0, ${host.release}, x86_64: installed\ntwo/1.0, ${host.release}, x86_64: installed\n`,
    );
    expect((await host.run('kiln', 'autoremove', '-k', host.release)).status).toBe(0);
    expect((await host.run('dkms', 'status')).stdout).toBe(
      'left/1.0: added\none/1.0: added\ntwo/1.0: added\n',
    );
  });
});
