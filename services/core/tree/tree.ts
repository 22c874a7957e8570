import { digestOf, type Digest } from '../digest.ts';
import { KilnError } from '../errors.ts';

/** One thing in a tree. Directories are implied by the paths below them, as in git. */
export type TreeEntry =
  | {
      readonly kind: 'file';
      readonly path: string;
      readonly executable: boolean;
      readonly digest: Digest;
    }
  | { readonly kind: 'symlink'; readonly path: string; readonly target: string };

/** A list of entries with the digest that names exactly them. */
export interface Tree {
  readonly entries: readonly TreeEntry[];
  readonly digest: Digest;
}

/** What a tarball turned out to hold: its entries and the content of the evidence among them. */
export interface ScannedTree {
  readonly entries: readonly TreeEntry[];
  readonly evidence: ReadonlyMap<string, Buffer>;
  /** Entries that share their bytes with an entry before them. */
  readonly hardLinks?: readonly { readonly path: string; readonly target: string }[];
}

/**
 * Where a part of a tarball stands in the tree made from it. A tree is laid out by a list of
 * moves: an entry goes where the first matching one takes it, and is left out where none matches.
 */
export interface Move {
  readonly from: string;
  readonly to: string;
  /** Of a kernel's tree: what building the kernel has left there, and no module's build reads, is left out. */
  readonly headersOnly?: true;
}

/** Whether a file is left over from building the kernel: objects, make's notes, modules, and the kernel's private signing keys. */
export const isKernelLeftover = (path: string): boolean =>
  /\.(o|a|ko|mod|mod\.c)$|(^|\/)\.[^/]+\.(cmd|d)$|(^|\/)certs\/[^/]+\.(pem|key|genkey|x509)$/.test(
    path,
  );

/** The path a tarball's entry has in the tree, or `null` if the tree leaves it out. */
export const movedPath = (path: string, layout: readonly Move[]): string | null => {
  for (const { from, to, headersOnly } of layout) {
    if (headersOnly === true && isKernelLeftover(path)) return null;
    if (from === '') return to === '' ? path : `${to}/${path}`;
    if (path.startsWith(`${from}/`)) return `${to}${path.slice(from.length)}`.replace(/^\//, '');
  }
  return null;
};

/**
 * The tree that a layout makes of a tarball's entries. Its digest is the SHA-256 over one line an
 * entry, in the order of their paths' UTF-16 code units: owner, time and order in the tarball do not count.
 */
export const layTree = (entries: readonly TreeEntry[], layout: readonly Move[]): Tree => {
  const laid = entries.flatMap((entry) => {
    const path = movedPath(entry.path, layout);
    return path === null ? [] : [{ ...entry, path }];
  });
  laid.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
  return { entries: laid, digest: digestOf(laid.map(line).join('')) };
};

/**
 * A layout that keeps a hard link must keep the file that has its bytes. Throws `KilnError('bad-tarball')`.
 */
export const mustKeepLinks = (
  scanned: Pick<ScannedTree, 'hardLinks'>,
  layout: readonly Move[],
): void => {
  const lost = scanned.hardLinks?.find(
    ({ path, target }) => movedPath(path, layout) !== null && movedPath(target, layout) === null,
  );
  if (lost === undefined) return;
  throw new KilnError(
    'bad-tarball',
    `${lost.path} is a hard link to ${lost.target}, which is not part of the tree; make the tarball of the tree alone`,
  );
};

const line = (entry: TreeEntry): string =>
  entry.kind === 'file'
    ? `${entry.executable ? 'x' : 'f'} ${entry.digest} ${entry.path}\n`
    : `l ${digestOf(entry.target)} ${entry.path}\n`;
