import { randomUUID } from 'node:crypto';
import { mkdir, rename, rm, symlink, utimes, access } from 'node:fs/promises';
import { join } from 'node:path';
import { SOURCE_DATE_EPOCH } from '../core/build-environment.ts';
import { hexOf, type Digest } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import type { TreeOrigin } from '../core/jobs.ts';
import { kernelMounts, type Kernel } from '../core/kernel.ts';
import type { Tree } from '../core/tree.ts';
import type { Blobs } from '../storage/blobs.ts';
import { unpackTree } from '../storage/unpack-tree.ts';
import { readdir } from 'node:fs/promises';

/** Unpacked trees, each once, under its digest. What is there is whole and is never written again. */
export interface TreeCache {
  /** A source's directory. */
  source(tree: Digest, origin: TreeOrigin): Promise<string>;
  /** A kernel's directories, each with the path it has in the sandbox. */
  kernel(
    kernel: Kernel & TreeOrigin,
  ): Promise<readonly { readonly from: string; readonly at: string }[]>;
}

export const openTreeCache = async (directory: string, blobs: Blobs): Promise<TreeCache> => {
  const arrivals = join(directory, 'arriving');
  await rm(arrivals, { recursive: true, force: true });
  await mkdir(arrivals, { recursive: true });
  const underWay = new Map<Digest, Promise<string>>();

  const fetch = async (
    digest: Digest,
    origin: TreeOrigin,
    finish: (at: string, tree: Tree) => Promise<void>,
  ) => {
    const place = join(directory, hexOf(digest));
    if (await exists(place)) return place;
    const arrival = join(arrivals, randomUUID());
    await mkdir(arrival);
    try {
      const tree = await unpackTree(
        await blobs.open(origin.blob),
        arrival,
        origin.layout,
        SOURCE_DATE_EPOCH,
      );
      if (tree.digest !== digest) {
        throw new KilnError(
          'internal',
          `the archive unpacks to the tree ${tree.digest}, not ${digest}`,
        );
      }
      await finish(arrival, tree);
      await rename(arrival, place);
    } finally {
      await rm(arrival, { recursive: true, force: true });
    }
    return place;
  };

  const get = (
    digest: Digest,
    origin: TreeOrigin,
    finish: (at: string, tree: Tree) => Promise<void>,
  ): Promise<string> => {
    const waiting = underWay.get(digest);
    if (waiting !== undefined) return waiting;
    const started = fetch(digest, origin, finish).finally(() => underWay.delete(digest));
    underWay.set(digest, started);
    return started;
  };

  return {
    source: (tree, origin) => get(tree, origin, () => Promise.resolve()),

    async kernel(kernel) {
      const modules = join('lib/modules', kernel.release);
      const place = await get(kernel.digest, kernel, async (at, tree) => {
        for (const mount of kernelMounts(tree))
          await utimes(join(at, mount), SOURCE_DATE_EPOCH, SOURCE_DATE_EPOCH);
        await mkdir(join(at, modules), { recursive: true });
        await symlink(kernel.buildDirectory, join(at, modules, 'build'));
      });
      const mounts = [modules];
      for (const parent of ['usr/src', 'usr/lib']) {
        const names = await readdir(join(place, parent)).catch(() => []);
        mounts.push(...names.map((name) => join(parent, name)));
      }
      return mounts.map((mount) => ({ from: join(place, mount), at: `/${mount}` }));
    },
  };
};

const exists = async (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );
