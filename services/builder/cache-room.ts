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

/** The room that a builder's unpacked trees take, and when each was last used. Both are kept on the disk, so that a restart forgets nothing. */
export interface CacheRoom {
  /** Notes that a tree is being used. */
  used(name: string): Promise<void>;
  /**
   * Removes the least recently used trees until the rest takes at most `limit` bytes, and gives their names. No build may run
   * meanwhile.
   */
  collect(limit: number): Promise<readonly string[]>;
}

/** Opens the records in `directory/used`. Trees are moved to `arrivals` before they are removed, so that nobody finds half of one. */
export const openCacheRoom = async (directory: string, arrivals: string): Promise<CacheRoom> => {
  const books = join(directory, 'used');
  await mkdir(books, { recursive: true });

  const used = async (name: string): Promise<void> => {
    const now = new Date();
    await utimes(join(books, name), now, now).catch(async () => {
      const size = await sizeOf(join(directory, name));
      await writeFile(join(books, name), String(size));
    });
  };

  return {
    used,
    async collect(limit) {
      const kept: { name: string; size: number; at: number }[] = [];
      for (const { name } of await readdir(directory, { withFileTypes: true })) {
        if (!/^(tree|dependency|setting|answers)-[0-9a-f]{64}$/.test(name)) continue;
        const book = join(books, name);
        if ((await stat(book).catch(() => null)) === null) await used(name);
        const size = Number(await readFile(book, 'utf8'));
        kept.push({ name, size, at: (await stat(book)).mtimeMs });
      }
      let total = kept.reduce((sum, { size }) => sum + size, 0);
      const removed: string[] = [];
      for (const { name, size } of kept.toSorted((one, other) => one.at - other.at)) {
        if (total <= limit) break;
        const leaving = join(arrivals, randomUUID());
        await rename(join(directory, name), leaving);
        await rm(join(books, name), { force: true });
        await rm(leaving, { recursive: true, force: true });
        total -= size;
        removed.push(name);
      }
      return removed;
    },
  };
};

/** Bytes that a tree's files take. */
const sizeOf = async (place: string): Promise<number> => {
  const stats = await lstat(place);
  if (!stats.isDirectory()) return stats.size;
  let sum = 0;
  for (const name of await readdir(place)) sum += await sizeOf(join(place, name));
  return sum;
};
