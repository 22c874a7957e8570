import { copyFile, mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { copyRoot } from './debian-root.ts';
import { debianKernel } from './debian.ts';
import { addKernel } from './small-root.ts';

/** A host with a kernel, and with those of the kernel's own modules that v4l2loopback needs. */
export const videoHost = async (release: string): Promise<string> => {
  const host = await copyRoot('sysext', ['kmod']);
  await addKernel(host, release);
  for (const path of ['mc/mc.ko', 'v4l2-core/videodev.ko']) {
    const place = `lib/modules/${release}/kernel/drivers/media/${path}`;
    await mkdir(dirname(join(host, place)), { recursive: true });
    await copyFile(join(await debianKernel(release), place), join(host, place));
  }
  return host;
};
