import { z } from 'zod';
import { KilnError } from '../errors.ts';
import type { Digest } from '../digest.ts';
import type { TreeEntry } from '../tree/tree.ts';

/** A kernel's tree, and what its release is called in its paths. */
export interface NamedTree {
  readonly release: string;
  readonly entries: readonly TreeEntry[];
}

/**
 * How a kernel's tree is made of another one's, so that only new files travel: `[start, count]` takes entries of the base,
 * renamed for the new release; `[index, path]` takes one entry's file under another path; a bare path is a file or link that travels.
 */
const Step = z.union([
  z.tuple([z.number().int().nonnegative(), z.number().int().positive()]),
  z.tuple([z.number().int().nonnegative(), z.string()]),
  z.string(),
]);
const MAX_ENTRIES = 200_000;
const releaseName = z.string().regex(/^[0-9][A-Za-z0-9.+_~-]{2,127}$/);
export const KernelDelta = z.strictObject({
  from: releaseName,
  to: releaseName,
  // The number of steps is checked before each is parsed.
  steps: z.preprocess(
    (steps) => (Array.isArray(steps) && steps.length > MAX_ENTRIES ? null : steps),
    z.array(Step),
  ),
});
export type KernelDelta = z.infer<typeof KernelDelta>;

/** The path of the delta in the tarball of new files. */
export const DELTA_FILE = '.kiln-delta.json';

/** A release without its flavour: `6.1.0-56` of `6.1.0-56-amd64`. Debian's common headers are named by it. */
const stemOf = (release: string): string => release.replace(/(-[a-z][a-z0-9]*)+$/, '');

const renamed = (entry: TreeEntry, from: string, to: string): TreeEntry => {
  const [old, next] = [stemOf(from), stemOf(to)];
  const path = entry.path.replaceAll(old, next);
  return entry.kind === 'file'
    ? { ...entry, path }
    : { ...entry, path, target: entry.target.replaceAll(old, next) };
};

/** The content of an entry, by which two entries are equal wherever they are. */
const contentOf = (entry: TreeEntry): string =>
  entry.kind === 'file' ? `${entry.executable ? 'x' : 'f'} ${entry.digest}` : `l ${entry.target}`;

/** The delta from a base to a tree. Both are in the order that `layTree` gives. */
export const kernelDelta = (base: NamedTree, tree: NamedTree): KernelDelta => {
  const bySameName = new Map<string, number>();
  const byContent = new Map<string, number>();
  base.entries.forEach((entry, index) => {
    const moved = renamed(entry, base.release, tree.release);
    bySameName.set(`${contentOf(moved)} ${moved.path}`, index);
    if (entry.kind === 'file') byContent.set(contentOf(entry), index);
  });
  const steps: KernelDelta['steps'] = [];
  for (const entry of tree.entries) {
    const same = bySameName.get(`${contentOf(entry)} ${entry.path}`);
    const elsewhere = byContent.get(contentOf(entry));
    const last = steps.at(-1);
    if (same !== undefined) {
      if (isRun(last) && last[0] + last[1] === same) last[1] += 1;
      else steps.push([same, 1]);
    } else if (elsewhere !== undefined && entry.kind === 'file')
      steps.push([elsewhere, entry.path]);
    else steps.push(entry.path);
  }
  return { from: base.release, to: tree.release, steps };
};

const isRun = (step: KernelDelta['steps'][number] | undefined): step is [number, number] =>
  Array.isArray(step) && typeof step[1] === 'number';

/** The paths whose files and links must travel. */
export const travelling = (delta: KernelDelta): ReadonlySet<string> =>
  new Set(delta.steps.filter((step) => typeof step === 'string'));

/**
 * What a delta takes of its base: each entry of the new tree with the path it has in the base.
 * Throws `KilnError('bad-tarball')` where it refers to what the base does not have.
 */
export const takenFromBase = (
  delta: KernelDelta,
  base: readonly TreeEntry[],
): readonly { readonly from: string; readonly entry: TreeEntry }[] => {
  const counts = delta.steps.map((step) => (isRun(step) ? step[1] : 1));
  if (counts.reduce((sum, count) => sum + count, 0) > MAX_ENTRIES)
    throw new KilnError(
      'too-large',
      `the delta makes over ${MAX_ENTRIES} entries; send the headers whole`,
    );
  return delta.steps.flatMap((step) => {
    if (typeof step === 'string') return [];
    const [start, rest] = step;
    const count = typeof rest === 'number' ? rest : 1;
    const entries = base.slice(start, start + count);
    if (entries.length !== count)
      throw new KilnError(
        'bad-tarball',
        'the delta refers to files that its base does not have; send the headers whole',
      );
    return entries.map((entry) => ({
      from: entry.path,
      entry:
        typeof rest === 'string' ? { ...entry, path: rest } : renamed(entry, delta.from, delta.to),
    }));
  });
};

/** A tree's list of entries on the wire: the lines that its digest is made over. */
export const parseManifest = (text: string): readonly TreeEntry[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [, kind, content = '', path = ''] = /^([xfl]) (\S+) ([^\n]*)$/.exec(line) ?? [];
      if (kind === undefined)
        throw new KilnError(
          'unreachable',
          'the service’s list of the kernel’s files is malformed; update the client to the service’s version',
        );
      return kind === 'l'
        ? { kind: 'symlink', path, target: decodeURIComponent(content) }
        : { kind: 'file', path, executable: kind === 'x', digest: content as Digest };
    });

/** The list that `parseManifest` reads. */
export const manifestOf = (entries: readonly TreeEntry[]): string =>
  entries
    .map((entry) =>
      entry.kind === 'file'
        ? `${entry.executable ? 'x' : 'f'} ${entry.digest} ${entry.path}\n`
        : `l ${encodeURIComponent(entry.target)} ${entry.path}\n`,
    )
    .join('');
