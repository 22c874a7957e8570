import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { copyRoot, mustRunIn } from '../machine/debian-root.ts';
import { debianKernel } from '../machine/debian.ts';
import { dkmsSource } from '../machine/make-source.ts';
import { CLIENT } from '../machine/places.ts';
import { run, type Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { addKernel } from '../machine/small-root.ts';

/** A host with dracut whose images are where distributions and kernel-install put them. */
describe('an initramfs', () => {
  const kiln = sharedKiln();
  const { release } = kiln;
  const config = join(kiln.data, 'initramfs-places.config');
  const images = [
    `/boot/initrd-${release}`,
    `/boot/my-token/${release}/initrd`,
    `/efi/0123456789abcdef0123456789abcdef/${release}/initrd`,
  ];
  const other = `/boot/my-token/${release}0/initrd`;
  const unified = `/efi/EFI/Linux/my-token-${release}+3-1.efi`;
  let root: string;

  const on = (...args: string[]): Promise<Ran> =>
    run(CLIENT, [...args, '--root', root, '--run-programs-of-root'], {
      env: { ...process.env, KILN_CONFIG: config },
    });
  const put = async (path: string, from: string): Promise<void> => {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await copyFile(from, join(root, path));
  };

  beforeAll(async () => {
    await kiln.json('source', 'push', await dkmsSource('in-places', ''));
    root = await copyRoot('dracut', ['dracut', 'kmod']);
    await addKernel(root, release);
    await writeFile(join(root, 'etc/dracut.conf.d/mine.conf'), 'add_drivers+=" in-places "\n');
    const options = `boot/config-${release}`;
    await put(`/${options}`, join(await debianKernel(release), options));
    const [first = '', ...rest] = images;
    await mustRunIn(root, 'dracut', first, release);
    for (const image of [...rest, other]) await put(image, join(root, first));
    await mkdir(dirname(join(root, unified)), { recursive: true });
    await writeFile(join(root, unified), 'a kernel with its initramfs within');
    const { status } = await run(
      CLIENT,
      ['setup', kiln.url, '--token-file', join(kiln.data, 'admin.token'), '--trust-first-use'],
      { env: { ...process.env, KILN_CONFIG: config } },
    );
    expect(status).toBe(0);
  });
  afterAll(() => rm(dirname(root), { recursive: true, force: true }));

  it('is made anew in /boot, at an entry token and on the ESP, and one within a kernel is said with the command', async () => {
    const before = await readFile(join(root, other));
    const { status, stderr } = await on('install', 'in-places', '-k', release);
    expect([status, stderr]).toEqual([
      0,
      expect.stringContaining(
        `${unified}, which kernel ${release} starts with, may hold other modules than are installed now; make it anew: dracut --force --uefi --kver ${release}`,
      ),
    ]);
    for (const image of images)
      expect(await mustRunIn(root, 'lsinitrd', image)).toMatch(/updates\/kiln\/in-places\.ko/);
    expect((await readFile(join(root, other))).equals(before)).toBe(true);
  });
});
