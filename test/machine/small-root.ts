import {
  copyFile,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { digestOf } from '../../services/core/digest.ts';
import { debianKernel } from './debian.ts';
import { freshDirectory } from './make-source.ts';
import { mustRun } from './run.ts';

/** Some of the kernel's own modules: enough for an index, few enough that depmod takes no time. */
const SOME = ['drivers/net/dummy', 'drivers/block/loop', 'fs/fat/fat', 'lib/crc7'];

/** A root with kernels that have a handful of modules each, indexed by depmod; its path. */
export const makeSmallRoot = async (...releases: readonly string[]): Promise<string> => {
  const root = await freshDirectory('small-root');
  for (const release of releases) await addKernel(root, release);
  return root;
};

/** Puts one more kernel into such a root, as its package would. */
export const addKernel = async (root: string, release: string): Promise<void> => {
  const kernel = join(await debianKernel(release), 'lib/modules', release);
  const home = join(root, 'lib/modules', release);
  const paths = SOME.map((path) => `kernel/${path}.ko`);
  for (const path of paths) {
    await mkdir(dirname(join(home, path)), { recursive: true });
    // Newer kernels have theirs compressed.
    const suffix = await stat(join(kernel, path)).then(
      () => '',
      () => '.xz',
    );
    await copyFile(join(kernel, path + suffix), join(home, path + suffix));
  }
  await writeFile(join(home, 'modules.order'), `${paths.join('\n')}\n`);
  for (const name of ['modules.builtin', 'modules.builtin.modinfo'])
    await copyFile(join(kernel, name), join(home, name));
  await mustRun('depmod', ['-b', root, release]);
};

/** What counts as a root's state: not the lock, nor what is kept for a rollback. */
const COUNTED = ['lib', 'boot', 'var/lib/kiln'];
const UNCOUNTED = /^var\/lib\/kiln\/(lock|previous(\/|$)|failures\.json)/;

/** Everything that counts below a root: digests of files, targets of links. Times in receipts count as nothing. */
export const stateOf = async (root: string): Promise<Readonly<Record<string, string>>> => {
  const state: Record<string, string> = {};
  for (const top of COUNTED) {
    const names = await readdir(join(root, top), { recursive: true }).catch(() => []);
    for (const name of names.sort()) {
      const path = join(top, name);
      if (UNCOUNTED.test(path)) continue;
      const place = join(root, path);
      const found = await lstat(place);
      if (found.isSymbolicLink()) state[path] = `-> ${await readlink(place)}`;
      else if (found.isDirectory()) state[path] = 'directory';
      else state[path] = digestOf(withoutTimes(path, await readFile(place)));
    }
  }
  return state;
};

const withoutTimes = (path: string, bytes: Buffer): Buffer =>
  path.includes('/receipts/') && basename(path).endsWith('.json')
    ? Buffer.from(bytes.toString('utf8').replaceAll(/"installedAt": \d+/g, ''))
    : bytes;

/** Makes one root's counted state another's, times included. */
export const copyState = async (from: string, to: string): Promise<void> => {
  for (const top of COUNTED) {
    await rm(join(to, top), { recursive: true, force: true });
    await mkdir(dirname(join(to, top)), { recursive: true });
    await mustRun('cp', ['-a', join(from, top), join(to, top)]).catch(() => '');
  }
};
