import { createHash } from 'node:crypto';
import { copyFile, mkdir, open, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import type { TarballLimits } from '../core/tree/tarball-rules.ts';
import { toDigest } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import { layTree, movedPath, type Move, type Tree, type TreeEntry } from '../core/tree/tree.ts';
import { readTarball } from './read-tarball.ts';

/**
 * Unpacks a tarball into an empty directory, laid out by `layout`, and gives back the tree that now stands there.
 * The rules admit no path below a link, so nothing is ever written through one; files get mode 644 or 755 and `mtime` (seconds).
 */
export const unpackTree = async (
  tarball: Readable,
  directory: string,
  layout: readonly Move[],
  mtime: number,
  limits?: TarballLimits,
): Promise<Tree> => {
  const entries: TreeEntry[] = [];
  const files = new Map<string, Extract<TreeEntry, { kind: 'file' }>>();
  const made = new Set<string>();
  const placeOf = async (path: string): Promise<string> => {
    const place = join(directory, path);
    if (!made.has(dirname(place))) {
      await mkdir(dirname(place), { recursive: true, mode: 0o755 });
      made.add(dirname(place));
    }
    return place;
  };

  await readTarball(
    tarball,
    async (entry, body) => {
      if (entry.kind === 'directory') return;
      const path = movedPath(entry.path, layout);
      if (entry.kind === 'file') {
        const hash = createHash('sha256');
        const file =
          path === null
            ? null
            : await open(await placeOf(path), 'wx', entry.executable ? 0o755 : 0o644);
        try {
          for await (const chunk of body) {
            hash.update(chunk);
            await file?.writeFile(chunk);
          }
          await file?.utimes(mtime, mtime);
        } finally {
          await file?.close();
        }
        const found = { ...entry, digest: toDigest(hash.digest('hex')) };
        files.set(entry.path, found);
        entries.push(found);
      } else if (entry.kind === 'symlink') {
        if (path !== null) await symlink(entry.target, await placeOf(path));
        entries.push(entry);
      } else {
        const target = files.get(entry.target);
        if (target === undefined) return;
        const linked = { ...target, path: entry.path };
        files.set(entry.path, linked);
        entries.push(linked);
        const from = movedPath(entry.target, layout);
        if (path !== null && from === null)
          throw new KilnError(
            'bad-tarball',
            `${entry.path} is a hard link to what is not part of the tree; make the tarball of the tree alone`,
          );
        if (path !== null && from !== null)
          await copyFile(join(directory, from), await placeOf(path));
      }
    },
    limits,
  );
  return layTree(entries, layout);
};
