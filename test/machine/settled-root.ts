import { cp, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { debianHeaders } from './debian.ts';
import { dkmsSource } from './make-source.ts';
import { mustRun } from './run.ts';
import { addKernel } from './small-root.ts';

/** A root that is lived in: two kernels, GRUB, an initramfs of each, and programs of its own that make these. */

/** Programs of the root, which run in it (chroot): what they write stays inside whatever links there are. */
const PROGRAMS = {
  'update-initramfs':
    'echo made >/boot/initrd.img-$3.new; mv /boot/initrd.img-$3.new /boot/initrd.img-$3',
  lsinitramfs: 'exit 1',
  'grub-editenv': 'case $2 in set) echo $3 >$1 ;; unset) : >$1 ;; esac',
};

/** Settles an empty directory as a root with two kernels; `twin` is the same kernel as `release` under another name. */
export const settle = async (root: string, release: string, twin: string): Promise<void> => {
  await addKernel(root, release);
  await cp(join(root, 'lib/modules', release), join(root, 'lib/modules', twin), {
    recursive: true,
  });
  await mustRun('depmod', ['-b', root, twin]);
  const symvers = join(await debianHeaders(release), 'usr/src', `linux-headers-${release}`);
  await mkdir(join(root, 'lib/modules', twin, 'build'));
  await cp(
    join(symvers, 'Module.symvers'),
    join(root, 'lib/modules', twin, 'build/Module.symvers'),
  );
  for (const directory of ['bin', 'usr/sbin', 'boot/grub'])
    await mkdir(join(root, directory), { recursive: true });
  await cp('/bin/busybox', join(root, 'bin/busybox'), { dereference: true });
  for (const [name, text] of Object.entries(PROGRAMS))
    await writeFile(
      join(root, 'usr/sbin', name),
      `#!/bin/busybox sh\nmv() { /bin/busybox mv "$@"; }\n${text}\n`,
      { mode: 0o755 },
    );
  const entries = [release, twin].map(
    (each) =>
      `\tmenuentry 'Linux ${each}' $menuentry_id_option 'gnulinux-${each}-advanced-12ab' {\n\t}\n`,
  );
  await writeFile(
    join(root, 'boot/grub/grub.cfg'),
    `set default="\${saved_entry}"\nsubmenu 'Advanced' $menuentry_id_option 'gnulinux-advanced-12ab' {\n${entries.join('')}}\n`,
  );
  await writeFile(join(root, 'boot/grub/grubenv'), '');
  for (const each of [release, twin])
    await writeFile(join(root, `boot/initrd.img-${each}`), 'an image\n');
};

/** Lays down what DKMS leaves of a source `name`, version 1.0, that it has installed for a kernel. */
export const layDkms = async (root: string, name: string, release: string): Promise<void> => {
  const source = await dkmsSource(name, '');
  await cp(source, join(root, `usr/src/${name}-1.0`), { recursive: true });
  const tree = join(root, 'var/lib/dkms', name);
  const built = join(tree, '1.0', release, 'x86_64/module');
  const updates = join(root, 'lib/modules', release, 'updates/dkms');
  await mkdir(built, { recursive: true });
  await mkdir(updates, { recursive: true });
  await symlink(`/usr/src/${name}-1.0`, join(tree, '1.0/source'));
  await symlink(`1.0/${release}/x86_64`, join(tree, `kernel-${release}-x86_64`));
  for (const place of [built, updates])
    await writeFile(join(place, `${name}.ko`), 'what DKMS built');
};
