import { randomUUID } from 'node:crypto';
import {
  access,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { SOURCE_DATE_EPOCH } from '../core/build/build-environment.ts';
import { digestOf, hexOf, type Digest } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import type { Dependency, TreeOrigin } from '../core/jobs/jobs.ts';
import { parseSymvers, SYMVERS_LIMIT, type Symvers } from '../core/module/kabi.ts';
import { kernelMounts, type Kernel } from '../core/kernel/kernel.ts';
import {
  installDirectories,
  kernelLink,
  namedDirectory,
  sourceDirectory,
} from '../core/build/recipe.ts';
import type { Settings } from '../core/source/source.ts';
import type { Tree } from '../core/tree/tree.ts';
import type { Blobs } from '../storage/blobs.ts';
import type { Meters } from '../storage/meters.ts';
import type { CacheRoom } from './cache-room.ts';
import { unpackTree } from '../storage/unpack-tree.ts';

/** A directory or file of the builder's and where the sandbox has it. */
export interface Mount {
  readonly from: string;
  readonly at: string;
}

/** The cache of unpacked trees, each kept once, under its digest. A tree in it is complete and never changed. */
export interface TreeCache {
  /** A source's directory. */
  source(tree: Digest, origin: TreeOrigin): Promise<string>;
  /** A kernel's directories, each with the path it has in the sandbox. */
  kernel(kernel: Kernel & TreeOrigin): Promise<readonly Mount[]>;
  /** The symbols that a kernel exports; none where its headers have no `Module.symvers`. */
  symvers(kernel: Kernel & TreeOrigin): Promise<Symvers>;
  /** The directory that DKMS would keep of a dependency that was built for a kernel; its source is mounted separately. */
  dependency(dependency: Dependency, kernel: Kernel): Promise<Mount>;
  /** Settings files, each at its own path. */
  settings(settings: Settings): Promise<readonly Mount[]>;
  /** A directory that `fill` makes once for a key: the digest of everything its content depends on. */
  answers(key: Digest, fill: (at: string) => Promise<void>): Promise<string>;
  /** The same for what is to be packed. */
  planned(key: Digest, fill: (at: string) => Promise<void>): Promise<string>;
}

const MODULE_LIMIT = 1024 ** 3;

export const openTreeCache = async (
  directory: string,
  blobs: Blobs,
  room: Pick<CacheRoom, 'used'>,
  meters: Pick<Meters, 'count'>,
): Promise<TreeCache> => {
  const arrivals = join(directory, 'arriving');
  await rm(arrivals, { recursive: true, force: true });
  await mkdir(arrivals, { recursive: true });
  const underWay = new Map<string, Promise<string>>();

  const make = async (
    kind: string,
    place: string,
    fill: (at: string) => Promise<void>,
  ): Promise<string> => {
    const isThere = await exists(place);
    meters.count('kiln_cache_lookups_total', { kind, result: isThere ? 'hit' : 'miss' });
    if (isThere) return place;
    const arrival = join(arrivals, randomUUID());
    await mkdir(arrival);
    try {
      await fill(arrival);
      await rename(arrival, place);
    } finally {
      await rm(arrival, { recursive: true, force: true });
    }
    return place;
  };

  /** Makes a place in the cache once, however many builds ask for it at the same time. */
  const once = (
    kind: 'tree' | 'dependency' | 'setting' | 'answers' | 'package',
    digest: Digest,
    fill: (at: string) => Promise<void>,
  ): Promise<string> => {
    // The kind is part of the name: otherwise a crafted text with a tree's digest could take the tree's place.
    const name = `${kind}-${hexOf(digest)}`;
    const waiting = underWay.get(name);
    if (waiting !== undefined) return waiting;
    const started = make(kind, join(directory, name), fill)
      .then(async (place) => {
        await room.used(name);
        return place;
      })
      .finally(() => underWay.delete(name));
    underWay.set(name, started);
    return started;
  };

  const unpack = async (origin: TreeOrigin, at: string, digest: Digest): Promise<Tree> => {
    const tarball = await blobs.open(origin.blob);
    const tree = await unpackTree(tarball, at, origin.layout, SOURCE_DATE_EPOCH);
    if (tree.digest === digest) return tree;
    throw new KilnError(
      'internal',
      `the tarball unpacks to the tree ${tree.digest}, not ${digest}`,
    );
  };

  return {
    source: (tree, origin) =>
      once('tree', tree, async (at) => {
        await unpack(origin, at, tree);
      }),

    async kernel(kernel) {
      const modules = join('lib/modules', kernel.release);
      const place = await once('tree', kernel.digest, async (at) => {
        const tree = await unpack(kernel, at, kernel.digest);
        for (const mount of kernelMounts(tree))
          await utimes(join(at, mount), SOURCE_DATE_EPOCH, SOURCE_DATE_EPOCH);
        // The sandbox lays directories over these, which have to be there.
        const top = isAmongModules(kernel) ? join(at, 'usr') : at;
        for (const installed of installDirectories(kernel))
          await mkdir(join(top, installed), { recursive: true });
        if (isAmongModules(kernel)) return;
        await symlink(kernel.buildDirectory, join(at, modules, 'build'));
        if (kernel.sourceDirectory !== null)
          await symlink(kernel.sourceDirectory, join(at, modules, 'source'));
      });
      if (isAmongModules(kernel)) return [{ from: join(place, 'usr', modules), at: `/${modules}` }];
      const mounts = [modules];
      for (const parent of ['usr/src', 'usr/lib']) {
        const names = await readdir(join(place, parent)).catch(() => []);
        mounts.push(...names.map((name) => join(parent, name)));
      }
      return mounts.map((mount) => ({ from: join(place, mount), at: `/${mount}` }));
    },

    async symvers(kernel) {
      const place = join(directory, `tree-${hexOf(kernel.digest)}`);
      return readSymvers(join(place, kernel.buildDirectory));
    },

    async dependency({ fingerprint, source, modules, exports }, kernel) {
      const from = await once('dependency', fingerprint, async (at) => {
        const link = kernelLink(source, kernel);
        const result = join(at, link.to);
        await mkdir(join(result, 'module'), { recursive: true });
        await symlink(link.to, join(at, link.name));
        await symlink(sourceDirectory(source), join(at, source.version, 'source'));
        const layout = [{ from: '', to: '' }];
        await unpackTree(await blobs.open(exports), result, layout, SOURCE_DATE_EPOCH);
        for (const { name, unsigned } of modules) {
          const bytes = await blobs.read(unsigned, MODULE_LIMIT);
          await writeFile(join(result, 'module', `${name}.ko`), bytes);
        }
        // Dependents look for the symbols beside the modules, too.
        const beside = join(result, 'module/Module.symvers');
        if (!(await exists(beside))) await symlink('../Module.symvers', beside);
      });
      return { from, at: namedDirectory(source) };
    },

    settings: (settings) =>
      Promise.all(
        Object.entries(settings).map(async ([at, text]) => {
          const place = await once('setting', digestOf(text), (arrival) =>
            writeFile(join(arrival, 'text'), text),
          );
          return { from: join(place, 'text'), at };
        }),
      ),

    answers: (key, fill) => once('answers', key, fill),
    planned: (key, fill) => once('package', key, fill),
  };
};

/** Whether a kernel's headers are where its modules are, as Arch's: then `/lib/modules/REL/build` is no link. */
const isAmongModules = ({ buildDirectory, release }: Kernel): boolean =>
  buildDirectory === `/usr/lib/modules/${release}/build`;

/** The `Module.symvers` in a directory. Throws `too-large` before it is read. */
export const readSymvers = async (directory: string): Promise<Symvers> => {
  const file = join(directory, 'Module.symvers');
  const { size } = await stat(file);
  if (size > SYMVERS_LIMIT)
    throw new KilnError(
      'too-large',
      `the Module.symvers is ${size} bytes; the most that Kiln reads is ${SYMVERS_LIMIT}`,
    );
  return parseSymvers(await readFile(file, 'latin1'));
};

const exists = async (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );
