import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { toDigest, type Digest } from '../../services/core/digest.ts';
import { KilnError } from '../../services/core/errors.ts';
import type { ScannedTree, TreeEntry } from '../../services/core/tree/tree.ts';

/** An entry of a directory that is to be sent: where the file or link is, and the path it has in the tarball. */
export type LocalEntry =
  | {
      readonly kind: 'file';
      readonly place: string;
      readonly path: string;
      readonly size: number;
      readonly mode: number;
    }
  | {
      readonly kind: 'symlink';
      readonly place: string;
      readonly path: string;
      readonly target: string;
    };

/** Directories of version control, which are no part of a source or of headers. */
const LEFT_OUT = new Set(['.git', '.hg', '.svn']);

/** Every file and link below a directory, in order of names. `path` is the directory's own path in the tarball, '' for the top. */
export async function* walk(base: string, path = ''): AsyncGenerator<LocalEntry> {
  const names = (await readdir(base)).filter((name) => !LEFT_OUT.has(name)).sort();
  for (const name of names) {
    const place = join(base, name);
    const below = path === '' ? name : `${path}/${name}`;
    const stats = await lstat(place);
    if (stats.isDirectory()) yield* walk(place, below);
    else if (stats.isSymbolicLink())
      yield { kind: 'symlink', place, path: below, target: await readlink(place) };
    else if (stats.isFile())
      yield { kind: 'file', place, path: below, size: stats.size, mode: stats.mode & 0o777 };
    else
      throw new KilnError(
        'bad-source',
        `${place} is neither a file, a directory nor a link; leave it out`,
      );
  }
}

export const hashFile = async (file: string, signal?: AbortSignal): Promise<Digest> => {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file, { highWaterMark: 1024 * 1024 }), hash, { signal });
  return toDigest(hash.digest('hex'));
};

/** Hashes entries and keeps the content of the evidence, as the service does with a tarball. */
export const scanEntries = async (
  local: readonly LocalEntry[],
  isEvidence: (path: string) => boolean,
  signal: AbortSignal,
): Promise<ScannedTree> => {
  const entries: TreeEntry[] = [];
  const evidence = new Map<string, Buffer>();
  for (const each of local) {
    signal.throwIfAborted();
    if (each.kind === 'symlink') {
      entries.push({ kind: 'symlink', path: each.path, target: each.target });
      continue;
    }
    const bytes = await readFile(each.place);
    const digest = toDigest(createHash('sha256').update(bytes).digest('hex'));
    entries.push({ kind: 'file', path: each.path, executable: (each.mode & 0o111) !== 0, digest });
    if (isEvidence(each.path)) evidence.set(each.path, bytes);
  }
  return { entries, evidence };
};
