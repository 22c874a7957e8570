import { randomUUID } from 'node:crypto';
import {
  lstat,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { hexOf, toDigest, type Digest } from '../core/digest.ts';
import type { ContainerEngine } from './docker.ts';

/** What is kept for later builds. */
export interface Keeping {
  /** Bytes of all of it. */
  readonly bytes: number;
  /** Days that something stays which nobody uses. */
  readonly days: number;
}

/**
 * The room that a builder's unpacked trees and toolchains' images take, and when each was last used. Both are kept on the disk, so that a
 * restart forgets nothing. Images that this builder never used are not known here, and stay.
 */
export interface CacheRoom {
  /** Notes that a tree or image is being used. */
  used(name: string): Promise<void>;
  /**
   * Removes what was not used for longest, until nothing is too old and the rest has room, and gives its names. What a container uses
   * stays. No build of this builder may run meanwhile.
   */
  collect(keeping: Keeping): Promise<readonly string[]>;
}

const DAY = 24 * 3_600_000;
const TREE = /^(tree|dependency|setting|answers|package)-[0-9a-f]{64}$/;
const IMAGE = /^image-([0-9a-f]{64})$/;

/** The name that a toolchain's image has here. */
export const imageName = (toolchain: Digest): string => `image-${hexOf(toolchain)}`;

const imageIn = (name: string): Digest | null => {
  const hex = IMAGE.exec(name)?.[1];
  return hex === undefined ? null : toDigest(hex);
};

/** Opens the records in `directory/used`. Trees are moved to `directory/leaving` before they are removed, so that nobody finds half of one. */
export const openCacheRoom = async (
  directory: string,
  engine: Pick<ContainerEngine, 'imageSize' | 'removeImage'>,
): Promise<CacheRoom> => {
  const books = join(directory, 'used');
  const leaving = join(directory, 'leaving');
  await rm(leaving, { recursive: true, force: true });
  await mkdir(leaving, { recursive: true });
  await mkdir(books, { recursive: true });

  /** Bytes of a tree or image; `null` if it is not there. */
  const sizeOf = async (name: string): Promise<number | null> => {
    const toolchain = imageIn(name);
    if (toolchain !== null) return engine.imageSize(toolchain);
    const place = join(directory, name);
    return (await isThere(place)) ? sizeOfTree(place) : null;
  };

  /** Removes a tree or image; false where it is in use. */
  const remove = async (name: string): Promise<boolean> => {
    const toolchain = imageIn(name);
    if (toolchain !== null) return engine.removeImage(toolchain);
    const place = join(leaving, randomUUID());
    await rename(join(directory, name), place);
    await rm(place, { recursive: true, force: true });
    return true;
  };

  const used = async (name: string): Promise<void> => {
    const now = new Date();
    await utimes(join(books, name), now, now).catch(async () => {
      await writeFile(join(books, name), String((await sizeOf(name)) ?? 0));
    });
  };

  const find = async () => {
    const trees = (await readdir(directory)).filter((name) => TREE.test(name));
    const images = (await readdir(books)).filter((name) => IMAGE.test(name));
    const found: { readonly name: string; readonly size: number; readonly at: number }[] = [];
    for (const name of [...trees, ...images]) {
      const book = join(books, name);
      if (!(await isThere(book))) await used(name);
      // Somebody else removed the image.
      if (IMAGE.test(name) && (await sizeOf(name)) === null) await rm(book);
      else
        found.push({
          name,
          size: Number(await readFile(book, 'utf8')),
          at: (await stat(book)).mtimeMs,
        });
    }
    return found.toSorted((one, other) => one.at - other.at);
  };

  return {
    used,
    async collect({ bytes, days }) {
      const found = await find();
      let total = found.reduce((sum, { size }) => sum + size, 0);
      const removed: string[] = [];
      for (const { name, size, at } of found) {
        if (total <= bytes && at >= Date.now() - days * DAY) break;
        if (!(await remove(name))) continue;
        await rm(join(books, name), { force: true });
        total -= size;
        removed.push(name);
      }
      return removed;
    },
  };
};

const isThere = async (place: string): Promise<boolean> =>
  (await lstat(place).catch(() => null)) !== null;

/** Bytes that a tree's files take. */
const sizeOfTree = async (place: string): Promise<number> => {
  const stats = await lstat(place);
  if (!stats.isDirectory()) return stats.size;
  let sum = 0;
  for (const name of await readdir(place)) sum += await sizeOfTree(join(place, name));
  return sum;
};
