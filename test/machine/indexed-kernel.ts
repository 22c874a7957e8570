import { mkdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { debianKernel } from './debian.ts';
import { freshDirectory } from './make-source.ts';
import { mustRun } from './run.ts';

/** A root with one of Debian's kernels, all of its modules, and what depmod makes of them. */
export const indexedKernel = async (release: string): Promise<string> => {
  const root = await freshDirectory('indexed-kernel');
  const home = join(root, 'lib/modules', release);
  await mkdir(home, { recursive: true });
  const kernel = join(await debianKernel(release), 'lib/modules', release);
  await symlink(join(kernel, 'kernel'), join(home, 'kernel'));
  await mustRun('depmod', ['-b', root, release]);
  return root;
};
