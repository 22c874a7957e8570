import { cp, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { debianHeaders, debianPackage, headerPackages, releasesOf } from '../machine/debian.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { dkmsSource, freshDirectory, writeTree } from '../machine/make-source.ts';
import { kernelDevel, type Payload } from '../machine/kernel-devel.ts';
import { mustRun } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';

interface Kernel {
  readonly digest: string;
  readonly release: string;
  readonly build: string;
  readonly sent: number;
  readonly buildDirectory: string;
  readonly sourceDirectory: string | null;
}

const shared = sharedKiln();
let kiln: KilnService;
beforeAll(async () => {
  kiln = await startKiln(await freshDirectory('kernels'), { KILN_LOG_LEVEL: 'warn' });
  await pinToolchain(kiln);
});
afterAll(async () => {
  await kiln.stop();
});
const push = (...args: string[]): Promise<Kernel> => kiln.json<Kernel>('kernel', 'push', ...args);

describe('the headers of one kernel', () => {
  it('are the same whatever the way in: packages, a tarball, a directory, the host that has them', async () => {
    const packages = await headerPackages(shared.release);
    const debs = await Promise.all(packages.map((name) => debianPackage(name)));
    const fromDebs = await push(...debs);
    expect(fromDebs.sent).toBeGreaterThan(10e6);
    expect(fromDebs.sourceDirectory).toMatch(/^\/usr\/src\/linux-headers-.*-common$/);
    const tarball = join(await freshDirectory('tarball'), 'headers.tar.gz');
    await mustRun('tar', ['-C', shared.headers, '-czf', tarball, 'usr']);
    expect((await push(tarball)).digest).toBe(fromDebs.digest);
    // A second host sends nothing, from a directory or from where its distribution put them.
    expect(await push(shared.headers)).toMatchObject({ digest: fromDebs.digest, sent: 0 });
    expect(await push('--root', shared.headers, '-k', shared.release)).toMatchObject({
      digest: fromDebs.digest,
      sent: 0,
    });
  });

  it('of the next ABI need only their new files sent', async () => {
    const [, before = ''] = await releasesOf('amd64');
    const headers = await debianHeaders(before);
    const next = await push('--root', headers, '-k', before);
    expect(next.release).toBe(before);
    const all = join(await freshDirectory('all'), 'all.tar.zst');
    await mustRun('sh', ['-c', `tar -C "$1" -c usr | zstd -q -3 >"$2"`, 'sh', headers, all]);
    const whole = (await readFile(all)).length;
    process.stderr.write(`next ABI: ${next.sent} bytes sent, ${whole} in all\n`);
    expect(next.sent).toBeLessThan(whole / 4);
    // What was put together from two tarballs is the tree that is on the disk.
    const fresh = await startKiln(await freshDirectory('fresh'), { KILN_LOG_LEVEL: 'warn' });
    try {
      const alone = await fresh.json<Kernel>('kernel', 'push', headers);
      expect(alone.digest).toBe(next.digest);
    } finally {
      await fresh.stop();
    }
  });

  it.each<Payload>(['w9.gzdio', 'w6.xzdio', 'w3.zstdio'])(
    'come from an RPM package packed as %s, with its links and files of several names',
    async (payload) => {
      const release = '5.14.0-1.el9.x86_64';
      const home = `/usr/src/kernels/${release}`;
      const tree = await writeTree('rpm', {
        '.config': 'CONFIG_X86_64=y\nCONFIG_CC_VERSION_TEXT="gcc (GCC) 11.4.1"\n',
        'include/generated/utsrelease.h': `#define UTS_RELEASE "${release}"\n`,
        'include/a.h': 'same\n',
        'Module.symvers': '0x00000001\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n',
        Makefile: 'all:\n',
      });
      await symlink('a.h', join(tree, 'include/link.h'));
      const fromRpm = await push(await kernelDevel(tree, release, payload));
      expect(fromRpm).toMatchObject({ release, buildDirectory: home });
      await cp(join(tree, 'Module.symvers'), join(tree, 'Module.symvers.too'));
      const host = await freshDirectory('el9');
      await mkdir(join(host, 'usr/src/kernels'), { recursive: true });
      await mkdir(join(host, 'lib/modules', release), { recursive: true });
      await mustRun('cp', ['-a', tree, join(host, home)]);
      await symlink(home, join(host, 'lib/modules', release, 'build'));
      expect(await push('--root', host, '-k', release)).toMatchObject({
        digest: fromRpm.digest,
        sent: 0,
      });
    },
  );

  it('are found on a host by a link that is meant from where it really is, as Debian 13 has it', async () => {
    const release = '6.12.1+deb13-amd64';
    const home = `usr/src/linux-headers-${release}`;
    const headers = await writeTree('trixie', {
      [`${home}/.config`]: 'CONFIG_X86_64=y\nCONFIG_CC_VERSION_TEXT="gcc-14 14.2.0"\n',
      [`${home}/include/generated/utsrelease.h`]: `#define UTS_RELEASE "${release}"\n`,
      [`${home}/Makefile`]: 'all:\n',
      'usr/lib/linux-kbuild-6.12.1+deb13/scripts/Kbuild': 'nothing\n',
    });
    await symlink('../../lib/linux-kbuild-6.12.1+deb13/scripts', join(headers, home, 'scripts'));
    const { digest } = await push(headers);
    const modules = join(headers, 'usr/lib/modules', release);
    await mkdir(modules, { recursive: true });
    await symlink(`../../../src/linux-headers-${release}`, join(modules, 'build'));
    await symlink('usr/lib', join(headers, 'lib'));
    expect(await push('--root', headers, '-k', release)).toMatchObject({ digest, sent: 0 });
    // A link that leads nowhere but to itself is not followed for ever.
    await rm(join(modules, 'build'));
    await symlink('build', join(modules, 'build'));
    const { status, stderr } = await kiln.kiln('kernel', 'push', '--root', headers, '-k', release);
    expect([status, stderr]).toEqual([3, expect.stringMatching(/leads to no headers/)]);
  });
});

it('a kernel that is not here is answered with the package of its headers, by the host’s distribution', async () => {
  const host = await writeTree('rocky', {
    'etc/os-release': 'NAME="Rocky Linux"\nID="rocky"\nID_LIKE="rhel centos fedora"\n',
  });
  const release = '5.14.0-999.el9.x86_64';
  const source = await dkmsSource('wanting', '');
  const { status, stderr } = await kiln.kiln('build', source, '-k', release, '--root', host);
  expect([status, stderr]).toEqual([
    3,
    expect.stringMatching(
      /\(kiln kernel push; they come with kernel-devel-5\.14\.0-999\.el9\.x86_64\)/,
    ),
  ]);
});

describe('a host whose headers changed under the same release', () => {
  it('is built for by what it is, and what was built before shows as stale', async () => {
    const source = await dkmsSource('restless', '');
    await kiln.json('source', 'push', source);
    const first = await kiln.json<{ id: string; kernel: { digest: string } }>(
      'build',
      'restless',
      '-k',
      shared.release,
    );
    // The same release built anew, as a security update without a new ABI is: another package version, another option.
    const tree = await freshDirectory('changed');
    await mustRun('cp', ['-a', `${shared.headers}/.`, tree]);
    const home = join(tree, 'usr/src', `linux-headers-${shared.release}`);
    const edit = async (file: string, from: RegExp, to: string): Promise<void> => {
      await writeFile(
        join(home, file),
        (await readFile(join(home, file), 'utf8')).replace(from, to),
      );
    };
    const option = /^CONFIG_LOG_BUF_SHIFT=\d+$/m;
    await edit('include/generated/utsversion.h', /\(\d{4}-\d\d-\d\d\)/, '(2031-01-01)');
    await edit('.config', option, 'CONFIG_LOG_BUF_SHIFT=19');
    const changed = await push(tree);
    expect(changed).toMatchObject({
      release: shared.release,
      build: expect.stringContaining('2031'),
    });
    expect(changed.sent).toBeLessThan(2e6);
    const second = await kiln.json<{ id: string; kernel: { digest: string } }>(
      'build',
      'restless',
      '-k',
      shared.release,
    );
    expect(second.kernel.digest).toBe(changed.digest);
    expect(await kiln.json('show', first.id)).toMatchObject({ stale: 'headers' });
    expect(await kiln.json('show', second.id)).toMatchObject({ stale: null });
    expect((await kiln.kiln('list')).stdout).toMatch(new RegExp(`${first.id}\\s+succeeded, stale`));

    // A host that still has the kernel of before says so by its /boot/config.
    const host = await freshDirectory('old-host');
    await mkdir(join(host, 'boot'));
    const config = join(shared.headers, 'usr/src', `linux-headers-${shared.release}`, '.config');
    const withoutSalt = (await readFile(config, 'utf8')).replace(/^CONFIG_BUILD_SALT=.*\n/m, '');
    await writeFile(join(host, 'boot', `config-${shared.release}`), withoutSalt);
    const old = await kiln.json<{ id: string }>(
      'build',
      'restless',
      '-k',
      shared.release,
      '--root',
      host,
    );
    expect(old.id).toBe(first.id);

    // What `uname -v` and `uname -m` say tells them apart as well.
    const meant = async (facts: Readonly<Record<string, string>>): Promise<readonly string[]> => {
      const query = new URLSearchParams({ release: shared.release, ...facts });
      const answer = await fetch(`${kiln.url}/v1/kernels?${query.toString()}`, {
        headers: { authorization: `Bearer ${await kiln.adminToken()}` },
      });
      const { items } = (await answer.json()) as { items: readonly Kernel[] };
      return items.map(({ digest }) => digest);
    };
    expect(await meant({ build: changed.build })).toEqual([changed.digest]);
    expect(await meant({ build: changed.build.replace('2031', '2032') })).toEqual([]);
    expect(await meant({ build: changed.build, arch: 'aarch64' })).toEqual([]);
    const before = await kiln.json<Kernel[]>('kernel', 'list');
    const older = before.find(({ digest }) => digest === first.kernel.digest);
    expect(await meant({ build: older?.build ?? '', arch: 'x86_64' })).toEqual([older?.digest]);

    // And one whose kernel is neither is told what is missing.
    await writeFile(
      join(host, 'boot', `config-${shared.release}`),
      withoutSalt.replace(option, 'CONFIG_LOG_BUF_SHIFT=20'),
    );
    const none = await kiln.kiln('build', 'restless', '-k', shared.release, '--root', host);
    expect([none.status, none.stderr]).toEqual([
      3,
      expect.stringMatching(
        /\(another configuration\), and none of them is this one.*kiln kernel push/,
      ),
    ]);
  });
});
