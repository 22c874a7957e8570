import {
  chmod,
  cp,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { COMMANDS } from '../../client/commands.ts';
import { digestOf } from '../../services/core/digest.ts';
import { onBareRoot, runInside } from '../machine/debian-root.ts';
import { unpackPackages } from '../machine/debian.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { CHECKOUT } from '../machine/places.ts';
import { IS_THOROUGH } from '../machine/thorough.ts';
import { mustRun, run } from '../machine/run.ts';

const PLACE = await freshDirectory('package');

/** Makes the packages of a checkout under a umask, and finds them. */
const makePackages = async (
  umask: string,
  checkout = CHECKOUT,
): Promise<{ deb: string; rpm: string }> => {
  const place = await freshDirectory(`made-${umask}`);
  await mustRun('sh', [
    '-c',
    `umask ${umask}; exec "$0" "$1"`,
    join(checkout, 'client/package/make-package'),
    place,
  ]);
  const names = await readdir(place);
  const named = (ending: string): string =>
    join(place, names.find((name) => name.endsWith(ending)) ?? `no ${ending}`);
  return { deb: named('_amd64.deb'), rpm: named('-1.x86_64.rpm') };
};

/** The checkout with a small program as the client: most of what packing takes is compressing that. */
const smallCheckout = async (): Promise<string> => {
  const place = await freshDirectory('checkout');
  for (const part of ['services', 'node_modules', 'package.json', 'LICENSE'])
    await symlink(join(CHECKOUT, part), join(place, part));
  await cp(join(CHECKOUT, 'client'), join(place, 'client'), { recursive: true });
  await mkdir(join(place, 'dist'));
  await cp('/bin/busybox', join(place, 'dist/kiln'));
  return place;
};

/** Paths with our name below a root; mmdebstrap leaves the place where it mounted the package. */
const ours = async (root: string): Promise<readonly string[]> =>
  (await mustRun('find', [root, '-xdev', '-name', '*kiln*', '-printf', '/%P\n']))
    .split('\n')
    .filter((path) => path !== '' && !path.includes('/.kiln'))
    .sort();

describe('the packages', () => {
  let deb: string;
  let rpm: string;
  let root: string;
  const inside = (program: string, ...args: string[]) => runInside(root, program, args);

  beforeAll(async () => {
    ({ deb, rpm } = await makePackages('022'));
    root = join(PLACE, 'root');
    // apt resolves what the package depends on and recommends.
    await mustRun('mmdebstrap', [
      '--quiet',
      ...(await onBareRoot(deb)),
      '--setup-hook=chroot "$1" dpkg --purge kmod libkmod2',
      '--aptopt=APT::Install-Recommends "true"',
      '--hook-dir=/usr/share/mmdebstrap/hooks/file-mirror-automount',
      '--format=directory',
      'bookworm',
      root,
    ]);
  });

  it('are the same bytes when made again', async () => {
    const checkout = IS_THOROUGH ? CHECKOUT : await smallCheckout();
    const [made, again] = [
      await makePackages('022', checkout),
      await makePackages('077', checkout),
    ];
    for (const kind of ['deb', 'rpm'] as const)
      expect(digestOf(await readFile(again[kind]))).toBe(digestOf(await readFile(made[kind])));
  });

  it('bring kmod and no compiler to a bare Debian', async () => {
    const packages = (await inside('dpkg-query', '-W', '-f', '${Package}\n')).stdout.split('\n');
    expect(packages).toContain('kmod');
    expect(
      packages.filter((name) =>
        /^(gcc-\d+|gcc|g\+\+|cpp|clang|binutils|make|dkms|linux-.*|nodejs)(-|$)/.test(
          name.replace(/^gcc-\d+-base$/, ''),
        ),
      ),
    ).toEqual([]);
    for (const program of ['cc', 'gcc', 'make', 'ld', 'node'])
      expect((await inside('sh', '-c', `command -v ${program}`)).status).not.toBe(0);
    expect(await inside('dpkg', '--verify', 'kiln')).toMatchObject({ status: 0, stdout: '' });
    expect((await inside('kiln', '--help')).stdout).toMatch(/usage: kiln .*COMMAND/);
  });

  it('have a manual page with every command and every key of the configuration', async () => {
    const page = gunzipSync(await readFile(join(root, 'usr/share/man/man8/kiln.8.gz')))
      .toString()
      .replaceAll('\\-', '-');
    for (const { name, args } of COMMANDS)
      expect(page).toContain(`.SS "kiln ${name} ${args}`.trim().replace('…', '\\[u2026]'));
    const config = await readFile(join(root, 'etc/kiln/config'), 'utf8');
    const keys = [...config.matchAll(/^#(\S+) = /gm)].map((match) => match[1] ?? '');
    expect(keys.length).toBeGreaterThan(5);
    for (const key of keys) expect(page).toContain(`.B ${key} = `);
  });

  it('complete commands, options and kernels in bash', async () => {
    await mkdir(join(root, 'lib/modules/6.1.0-1-amd64'), { recursive: true });
    const complete = async (...words: string[]): Promise<string> => {
      const script = `source /usr/share/bash-completion/completions/kiln
        COMP_WORDS=(kiln "$@") COMP_CWORD=$#; _kiln; echo "\${COMPREPLY[*]}"`;
      const { stdout, stderr } = await inside('bash', '--norc', '-uec', script, 'bash', ...words);
      expect(stderr).toBe('');
      return stdout.trim();
    };
    expect(await complete('ins')).toBe('install');
    expect(await complete('kernel', 'pu')).toBe('push');
    expect(await complete('install', '--allow-u')).toBe('--allow-unsigned');
    expect(await complete('token', 'create', '--ro')).toBe('--root --role');
    expect(await complete('install', 'zfs', '-k', '6')).toBe('6.1.0-1-amd64');
    expect(await complete('install', './')).toBe('');
  });

  it('make modules ready before the initramfs is made, and look at the boot loader last', async () => {
    const others = await unpackPackages('kernel-hooks', [
      'initramfs-tools',
      'grub2-common',
      'dkms',
    ]);
    await cp(join(others, 'etc/kernel'), join(root, 'etc/kernel'), { recursive: true });
    expect(
      (await inside('run-parts', '--list', '/etc/kernel/postinst.d')).stdout
        .trim()
        .split('\n')
        .map((path) => path.replace('/etc/kernel/postinst.d/', '')),
    ).toEqual(['70-kiln', 'dkms', 'initramfs-tools', 'zz-update-grub', 'zzz-kiln-guard']);
  });

  describe('with a client that fails', () => {
    const RELEASE = '6.1.0-1-amd64';
    const asked = async (): Promise<readonly string[]> => {
      const text = await readFile(join(root, 'asked'), 'utf8').catch(() => '');
      await rm(join(root, 'asked'), { force: true });
      return text.split('\n').filter((line) => line !== '');
    };

    /** Runs what a kernel's maintainer script would. */
    const hooks = (folder: string, params: string) =>
      inside(
        'env',
        `DEB_MAINT_PARAMS=${params}`,
        'run-parts',
        '--exit-on-error',
        '--regex=kiln',
        `--arg=${RELEASE}`,
        `--arg=/boot/vmlinuz-${RELEASE}`,
        `/etc/kernel/${folder}`,
      );
    const plugin = (...args: string[]) =>
      inside('/usr/lib/kernel/install.d/40-kiln.install', ...args, '/boot/entry');

    const withClient = async (script: string, act: () => Promise<void>): Promise<void> => {
      const client = join(root, 'usr/bin/kiln');
      await rename(client, `${client}.shipped`);
      try {
        await writeFile(client, `#!/bin/sh\n${script}\n`);
        await chmod(client, 0o755);
        await act();
      } finally {
        await rename(`${client}.shipped`, client);
      }
    };
    const failing = 'echo "$@" >>/asked; echo "kiln: no answer" >&2; exit 5';

    it('never break the package manager’s run, and say so', () =>
      withClient(failing, async () => {
        expect(await hooks('postinst.d', 'configure')).toEqual({
          status: 0,
          stdout: '',
          stderr:
            `kiln: no answer\nkiln: autoinstall for ${RELEASE} ended with status 5; kiln-autoinstall.timer tries again, kiln status says what is missing\n` +
            'kiln: no answer\nkiln: guard ended with status 5\n',
        });
        expect(await asked()).toEqual([`autoinstall --hook -k ${RELEASE}`, 'guard --hook']);
        expect((await plugin('add', RELEASE)).status).toBe(0);
        expect((await plugin('remove', RELEASE)).status).toBe(0);
        expect((await plugin('inspect')).status).toBe(0);
        expect(await asked()).toEqual([
          `autoinstall --hook -k ${RELEASE}`,
          `autoremove --hook -k ${RELEASE}`,
        ]);
        expect((await inside('/etc/kernel/postinst.d/70-kiln')).status).toBe(0);
        expect((await inside('/etc/kernel/prerm.d/70-kiln', '--root=/')).status).toBe(0);
        expect(await asked()).toEqual([]);
      }));

    it('take modules away with their kernel, and not when its package is upgraded', () =>
      withClient(failing, async () => {
        expect((await hooks('prerm.d', 'remove')).status).toBe(0);
        expect(await asked()).toEqual([`autoremove --hook -k ${RELEASE}`]);
        expect((await hooks('postrm.d', 'upgrade 6.1.1-1')).status).toBe(0);
        expect(await asked()).toEqual(['guard --hook']);
        expect((await hooks('postrm.d', 'remove')).status).toBe(0);
        expect((await hooks('postrm.d', 'purge')).status).toBe(0);
        expect(await asked()).toEqual([
          `autoremove --hook -k ${RELEASE}`,
          'guard --hook',
          `autoremove --hook -k ${RELEASE}`,
          'guard --hook',
        ]);
      }));

    it('leave new headers to the kernel’s own hook while the kernel is not there', () =>
      withClient(failing, async () => {
        expect((await hooks('header_postinst.d', 'configure')).status).toBe(0);
        expect(await asked()).toEqual([]);
        const builtin = join(root, 'lib/modules', RELEASE, 'modules.builtin');
        await writeFile(builtin, '');
        expect((await hooks('header_postinst.d', 'configure')).status).toBe(0);
        expect(await asked()).toEqual([`autoinstall --hook -k ${RELEASE}`]);
      }));

    it('end a client that does not end', () =>
      withClient('exec sleep 1000', async () => {
        const hook = join(root, 'usr/lib/kiln/hook');
        const text = await readFile(hook, 'utf8');
        expect(text).toMatch(/--kill-after=1m 10m /);
        await writeFile(hook, text.replace('--kill-after=1m 10m', '--kill-after=1 1'));
        expect(await hooks('prerm.d', 'remove')).toEqual({
          status: 0,
          stdout: '',
          stderr: `kiln: autoremove for ${RELEASE} did not end in time\n`,
        });
        await writeFile(hook, text);
      }));
  });

  it('are enabled at boot where systemd is, and do nothing once removed', async () => {
    const wants = join(root, 'etc/systemd/system');
    expect(await readdir(join(wants, 'timers.target.wants'))).toContain('kiln-autoinstall.timer');
    expect(await readdir(join(wants, 'sysinit.target.wants'))).toContain('kiln-recover.service');

    expect((await inside('dpkg', '--remove', 'kiln')).status).toBe(0);
    expect(await inside('/etc/kernel/postinst.d/70-kiln', '6.1.0-1-amd64')).toEqual({
      status: 0,
      stdout: '',
      stderr: '',
    });
  });

  it('keep the receipts of modules that are still installed, and else leave nothing', async () => {
    const receipts = join(root, 'var/lib/kiln/receipts/6.1.0-1-amd64');
    await mkdir(receipts, { recursive: true });
    await writeFile(join(receipts, 'zfs.json'), '{}');
    await writeFile(join(root, 'etc/kiln/token'), 'secret');
    expect((await inside('dpkg', '--purge', 'kiln')).stderr).toMatch(
      /modules that kiln installed are still here/,
    );
    expect(await ours(root)).toEqual(['/etc/kiln', '/var/lib/kiln']);

    await cp(deb, join(root, 'new.deb'));
    await mustRun('chroot', [root, 'dpkg', '--install', '/new.deb']);
    await rm(join(receipts, 'zfs.json'));
    await mustRun('chroot', [root, 'dpkg', '--purge', 'kiln']);
    expect(await ours(root)).toEqual([]);
  });

  it('go into an empty root as an .rpm, and out of it again', async () => {
    const empty = join(PLACE, 'empty');
    await mkdir(empty);
    const needs = (await mustRun('rpm', ['-qp', '--requires', rpm])).split('\n');
    expect(
      needs.filter(
        (name) =>
          name !== '' &&
          !/^(rpmlib\(|config\(|lib|ld-linux|kmod$|coreutils$|\/bin\/sh$)/.test(name),
      ),
    ).toEqual([]);

    // An empty root has none of what is needed, so that no scriptlet may need a shell.
    await mustRun('rpm', ['--root', empty, '--install', '--nodeps', rpm]);
    expect(await mustRun('rpm', ['--root', empty, '--verify', '--nodeps', 'kiln'])).toBe('');
    expect((await run(join(empty, 'usr/bin/kiln'), ['--help'])).stdout).toMatch(/usage: kiln/);
    expect(await mustRun('rpm', ['--root', empty, '-q', '--configfiles', 'kiln'])).toBe(
      '/etc/kiln/config\n',
    );
    await mustRun('rpm', ['--root', empty, '--erase', 'kiln']);
    expect(await ours(empty)).toEqual([]);
  });
});
