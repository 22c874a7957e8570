import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno, KilnError } from '../../services/core/errors.ts';
import type { Host } from './host.ts';

/** Why a place cannot be written to, and what to do; `null` where the error is another. */
export const refusedWrite = (error: unknown, place: string): string | null => {
  if (hasErrno(error, 'EROFS'))
    return `${place} is on a read-only file system; remount it writable, or, where the system is an image (ostree, squashfs), run kiln with --root DIR where that image is made`;
  if (!hasErrno(error, 'EACCES') && !hasErrno(error, 'EPERM')) return null;
  return process.geteuid?.() === 0
    ? `${place} cannot be written, not even by root; look at its attributes (lsattr -d) and at what the security module has logged`
    : `${place} cannot be written by this user; run kiln as root`;
};

/** Why a kernel's modules cannot be changed on a host, and what to do; `null` where they can. */
export const modulesRefused = async (host: Host, release: string): Promise<string | null> => {
  const place = join(host.root, 'lib/modules', release);
  try {
    await access(place, constants.W_OK);
    return null;
  } catch (error) {
    return refusedWrite(error, place);
  }
};

/** Throws `install-failed` where a kernel's modules cannot be changed. Commands check it first, before they ask for builds in vain. */
export const modulesMustBeWritable = async (host: Host, release: string): Promise<void> => {
  const refused = await modulesRefused(host, release);
  if (refused !== null) throw new KilnError('install-failed', refused);
};
