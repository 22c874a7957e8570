import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

/** What a container needs of a kernel's unpacked headers, each directory where its package puts it: values of Docker's `--volume`. */
export const headerMounts = async (headers: string): Promise<readonly string[]> => {
  const mounts: string[] = [];
  for (const parent of ['usr/src', 'usr/lib']) {
    for (const name of await readdir(join(headers, parent)).catch(() => []))
      // Debian 13 has its links for `/lib/modules` here, and Arch its headers; a container gets those by themselves.
      if (name !== 'modules') mounts.push(`${join(headers, parent, name)}:/${parent}/${name}:ro`);
  }
  return mounts;
};
