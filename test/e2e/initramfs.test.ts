import { chmod, copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { copyRoot, mustRunIn } from '../machine/debian-root.ts';
import { debianKernel } from '../machine/debian.ts';
import { dkmsSource } from '../machine/make-source.ts';
import { CLIENT } from '../machine/places.ts';
import { run, type Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { addKernel } from '../machine/small-root.ts';

/** A host with Debian's own initramfs-tools, whose settings want one of two modules in the image. */
describe('an initramfs', () => {
  const kiln = sharedKiln();
  const { release } = kiln;
  let root: string;
  let image: string;
  const config = join(kiln.data, 'initramfs.config');

  const on = (...args: string[]): Promise<Ran> =>
    run(CLIENT, [...args, '--root', root, '--run-programs-of-root', '-q'], {
      env: { ...process.env, KILN_CONFIG: config },
    });
  const held = async (): Promise<string> =>
    mustRunIn(root, 'lsinitramfs', `/boot/initrd.img-${release}`);

  beforeAll(async () => {
    await kiln.json('source', 'push', await dkmsSource('in-image', ''));
    await kiln.json('source', 'push', await dkmsSource('not-in-image', ''));
    root = await copyRoot('initramfs-tools', [
      'initramfs-tools',
      'grub-common',
      'kmod',
      'xz-utils',
    ]);
    image = join(root, 'boot', `initrd.img-${release}`);
    await addKernel(root, release);
    await mkdir(join(root, 'boot'), { recursive: true });
    const options = `boot/config-${release}`;
    await copyFile(join(await debianKernel(release), options), join(root, options));
    await writeFile(join(root, 'etc/initramfs-tools/modules'), 'in_image\n');
    await mustRunIn(root, 'update-initramfs', '-c', '-k', release);
    const { status } = await run(
      CLIENT,
      ['setup', kiln.url, '--token-file', join(kiln.data, 'admin.token'), '--trust-first-use'],
      { env: { ...process.env, KILN_CONFIG: config } },
    );
    expect(status).toBe(0);
  });
  afterAll(() => rm(dirname(root), { recursive: true, force: true }));

  it('is left alone by a module that it does not hold', async () => {
    const before = await readFile(image);
    expect(await on('install', 'not-in-image', '-k', release)).toMatchObject({ status: 0 });
    expect((await readFile(image)).equals(before)).toBe(true);
  });

  it('is as it was, and so is all else, when its tool fails', async () => {
    const hook = join(root, 'etc/initramfs-tools/hooks/broken');
    const before = await readFile(image);
    await writeFile(hook, '#!/bin/sh\necho "cannot copy it" >&2\nexit 1\n');
    await chmod(hook, 0o755);
    expect(await on('install', 'in-image', '-k', release)).toMatchObject({
      status: 7,
      stderr: expect.stringMatching(/update-initramfs failed .*hooks\/broken.*nothing was changed/),
    });
    await rm(hook);
    expect((await readFile(image)).equals(before)).toBe(true);
    const { stdout } = await on('status', '--offline');
    expect(stdout).toMatch(/not-in-image/);
    expect(stdout).not.toMatch(/ in-image/);
  });

  it('holds a module that it should, and no more when that is removed', async () => {
    expect(await held()).not.toMatch(/in-image\.ko/);
    expect(await on('install', 'in-image', '-k', release)).toMatchObject({ status: 0, stderr: '' });
    expect(await held()).toMatch(/updates\/kiln\/in-image\.ko/);
    expect(await on('remove', 'in-image')).toMatchObject({ status: 0 });
    expect(await held()).not.toMatch(/in-image\.ko/);
  });

  it('is left alone when it shall be', async () => {
    expect((await on('install', 'in-image', '-k', release, '--no-initramfs')).status).toBe(0);
    expect(await held()).not.toMatch(/in-image\.ko/);
    expect((await on('remove', 'in-image', '--no-initramfs')).status).toBe(0);
  });
});
