import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { copyRoot } from '../machine/debian-root.ts';
import { debianHeaders, releasesOf, unpackPackages } from '../machine/debian.ts';
import { dkmsSource } from '../machine/make-source.ts';
import { CLIENT } from '../machine/places.ts';
import { mustRun, run, type Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { addKernel } from '../machine/small-root.ts';

const kiln = sharedKiln();
const config = join(kiln.data, 'guard-release.config');
const UNITS = 'client/package/root/usr/lib/systemd/system';
let root: string;
let older: string;

const on = (...args: readonly string[]): Promise<Ran> =>
  run(CLIENT, [...args, '--root', root, '--run-programs-of-root'], {
    env: { ...process.env, KILN_CONFIG: config },
  });
const saved = async (): Promise<string> =>
  (await mustRun('chroot', [root, 'grub-editenv', '/boot/grub/grubenv', 'list'])).trim();

/** What kiln-autoinstall.timer starts. */
const catchUp = async (): Promise<Ran> => {
  const unit = await readFile(join(UNITS, 'kiln-autoinstall.service'), 'utf8');
  const [, command = ''] = /^ExecStart=\/usr\/bin\/kiln (.*)$/m.exec(unit) ?? [];
  return on(...command.split(' '));
};

beforeAll(async () => {
  [, older = ''] = await releasesOf('amd64');
  await kiln.json('kernel', 'push', await debianHeaders(older));
  await kiln.json('source', 'push', await dkmsSource('guarded', ''));
  root = await copyRoot('initramfs-tools', ['initramfs-tools', 'grub-common', 'kmod', 'xz-utils']);
  await mustRun('cp', ['-a', `${await unpackPackages('grub2-common', ['grub2-common'])}/.`, root]);
  for (const release of [older, kiln.release]) await addKernel(root, release);
  await mkdir(join(root, 'boot/grub'), { recursive: true });
  // Lines that grub-mkconfig writes; test/integration/guard.test.ts has it write them.
  const entries = [kiln.release, older].map(
    (release) =>
      `\tmenuentry 'Debian GNU/Linux, with Linux ${release}' $menuentry_id_option 'gnulinux-${release}-advanced-12ab' {\n\t}\n`,
  );
  await writeFile(
    join(root, 'boot/grub/grub.cfg'),
    `   set default="\${saved_entry}"\nsubmenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced-12ab' {\n${entries.join('')}}\n`,
  );
  await mustRun('chroot', [root, 'grub-editenv', '/boot/grub/grubenv', 'create']);
  const { status } = await run(
    CLIENT,
    ['setup', kiln.url, '--token-file', join(kiln.data, 'admin.token'), '--trust-first-use'],
    { env: { ...process.env, KILN_CONFIG: config } },
  );
  expect(status).toBe(0);
  await writeFile(config, `${await readFile(config, 'utf8')}guard = yes\n`);
});
afterAll(() => rm(dirname(root), { recursive: true, force: true }));

it('the boot loader is released when the timer has installed what a new kernel lacked', async () => {
  // The newest kernel lacks what the other has: its hook has failed, say.
  expect(await on('install', 'guarded', '-k', older)).toMatchObject({ status: 0 });
  expect(await saved()).toBe(`saved_entry=gnulinux-advanced-12ab>gnulinux-${older}-advanced-12ab`);
  const { status, stderr } = await catchUp();
  expect([status, stderr]).toEqual([
    0,
    expect.stringContaining(`GRUB starts ${kiln.release}, which has all its modules`),
  ]);
  expect(await saved()).toBe('');
});

it('it is released, too, where the timer finds all in place', async () => {
  await on('remove', 'guarded', '-k', kiln.release);
  await on('install', 'guarded', '-k', older);
  expect(await saved()).toMatch(/^saved_entry=/);
  await writeFile(config, (await readFile(config, 'utf8')).replace('guard = yes', 'guard = no'));
  expect(await on('install', 'guarded', '-k', kiln.release)).toMatchObject({ status: 0 });
  expect(await saved()).toMatch(/^saved_entry=/);
  await writeFile(config, (await readFile(config, 'utf8')).replace('guard = no', 'guard = yes'));
  expect(await catchUp()).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/nothing to do/),
  });
  expect(await saved()).toBe('');
});
