import { KilnError } from '../errors.ts';

/** How much one tarball may hold, once unpacked. */
export interface TarballLimits {
  readonly entries: number;
  readonly bytes: number;
  readonly pathLength: number;
}

/** Limits that a kernel's headers (16,000 files, 85 MB) and the largest module sources stay well under. */
export const DEFAULT_TARBALL_LIMITS: TarballLimits = {
  entries: 200_000,
  bytes: 2 * 1024 ** 3,
  pathLength: 1024,
};

/** The most directories in a path: more than any real tree has, and few enough that following all links is quick. */
const MAX_DEPTH = 64;
const MAX_SYMLINKS = 20_000;

/** An entry as its tar header claims it, unchecked. */
export interface ClaimedEntry {
  readonly name: string;
  readonly type: string | null | undefined;
  readonly mode?: number | undefined;
  readonly size?: number | undefined;
  readonly linkname?: string | null | undefined;
}

/** An entry that passed: a relative path of plain components, of a kind that a tree may hold. */
export type AdmittedEntry =
  | { readonly kind: 'file'; readonly path: string; readonly executable: boolean }
  | { readonly kind: 'symlink'; readonly path: string; readonly target: string }
  | { readonly kind: 'hardlink'; readonly path: string; readonly target: string }
  | { readonly kind: 'directory'; readonly path: string };

// oxlint-disable-next-line no-control-regex -- these are what it looks for
const CONTROL = /[\u0000-\u001f\u007f]/;

const refuse = (message: string): KilnError => new KilnError('bad-tarball', message);
const quote = (name: string): string =>
  JSON.stringify(name.length > 80 ? `${name.slice(0, 80)}…` : name);

/** A path of a tarball as plain components joined by `/`, or a refusal that names it. The top itself is ''. */
export const plainPath = (name: string, limits: TarballLimits = DEFAULT_TARBALL_LIMITS): string => {
  if (name.length > limits.pathLength) {
    throw refuse(
      `the tarball has a path of over ${limits.pathLength} characters: ${quote(name)}; shorten it`,
    );
  }
  if (CONTROL.test(name)) {
    throw refuse(
      `the tarball has a control character in the path ${quote(name)}; rename that file`,
    );
  }
  if (name.startsWith('/')) {
    throw refuse(
      `the tarball has the absolute path ${quote(name)}; make it with relative paths (tar -C DIR -c .)`,
    );
  }
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) {
    throw refuse(
      `the tarball has the path ${quote(name)}, which leaves the tree; make it without '..'`,
    );
  }
  if (parts.length > MAX_DEPTH) {
    throw refuse(
      `the tarball has a path of over ${MAX_DEPTH} directories: ${quote(name)}; make it less deep`,
    );
  }
  return parts.join('/');
};

/** Every path that `path` lies in: `a/b/c` gives `a`, `a/b`. */
const ancestors = (path: string): string[] => {
  const parts = path.split('/');
  return parts.slice(0, -1).map((_, index) => parts.slice(0, index + 1).join('/'));
};

/**
 * Holds the rules while a tarball is read: `admit` each header in order, then `finish`.
 * Both throw `KilnError('bad-tarball' | 'too-large')` naming the entry and the rule.
 */
export interface TarballGate {
  admit(entry: ClaimedEntry): AdmittedEntry;
  finish(): void;
}

/** A gate for one tarball. */
export const createTarballGate = (limits: TarballLimits = DEFAULT_TARBALL_LIMITS): TarballGate => {
  const kinds = new Map<string, AdmittedEntry['kind']>();
  const links = new Map<string, string>();
  let entries = 0;
  let bytes = 0;

  const sizes = new Map<string, number>();

  const countEntry = (): void => {
    entries += 1;
    if (entries > limits.entries) {
      throw new KilnError(
        'too-large',
        `the tarball has over ${limits.entries} entries, the limit of this service; send only what the build needs`,
      );
    }
  };

  const countBytes = (size: number): void => {
    bytes += size;
    if (bytes > limits.bytes) {
      throw new KilnError(
        'too-large',
        `the tarball unpacks to over ${limits.bytes} bytes, the limit of this service; send only what the build needs`,
      );
    }
  };

  const place = (path: string, kind: AdmittedEntry['kind']): void => {
    const seen = kinds.get(path);
    if (seen !== undefined && !(seen === 'directory' && kind === 'directory')) {
      throw refuse(`the tarball has ${quote(path)} twice; make it anew from one tree`);
    }
    for (const ancestor of ancestors(path)) {
      const above = kinds.get(ancestor);
      if (above !== undefined && above !== 'directory') {
        throw refuse(
          `the tarball puts ${quote(path)} below ${quote(ancestor)}, which is not a directory; make it anew from one tree`,
        );
      }
      // A directory that only a path implies counts like one that has an entry.
      if (above === undefined) countEntry();
      kinds.set(ancestor, 'directory');
    }
    kinds.set(path, kind);
  };

  return {
    admit(entry) {
      countEntry();
      countBytes(entry.size ?? 0);
      const path = plainPath(entry.name, limits);
      if (path === '' && entry.type !== 'directory') {
        throw refuse(`the tarball has a ${entry.type ?? 'thing'} without a name; make it anew`);
      }
      switch (entry.type) {
        case 'file':
        case 'contiguous-file':
          place(path, 'file');
          sizes.set(path, entry.size ?? 0);
          return { kind: 'file', path, executable: ((entry.mode ?? 0) & 0o111) !== 0 };
        case 'directory':
          if (path !== '') place(path, 'directory');
          return { kind: 'directory', path };
        case 'symlink': {
          const target = entry.linkname ?? '';
          if (target === '' || target.length > limits.pathLength || CONTROL.test(target)) {
            throw refuse(
              `the tarball’s link ${quote(path)} has no usable target; leave the link out`,
            );
          }
          if (target.split('/').length > MAX_DEPTH || links.size >= MAX_SYMLINKS) {
            throw refuse(
              `the tarball’s links are too deep or too many at ${quote(path)}; a tree may have ${MAX_SYMLINKS}, so leave some out`,
            );
          }
          place(path, 'symlink');
          links.set(path, target);
          return { kind: 'symlink', path, target };
        }
        case 'link': {
          const target = plainPath(entry.linkname ?? '', limits);
          if (kinds.get(target) !== 'file') {
            throw refuse(
              `the tarball’s hard link ${quote(path)} names ${quote(target)}, which is not a file before it; make it anew (tar --hard-dereference)`,
            );
          }
          place(path, 'hardlink');
          kinds.set(path, 'file');
          // In a tree, a hard link becomes a file of its own.
          sizes.set(path, sizes.get(target) ?? 0);
          countBytes(sizes.get(target) ?? 0);
          return { kind: 'hardlink', path, target };
        }
        default:
          throw refuse(
            `the tarball has ${quote(entry.name)}, a ${entry.type ?? 'nameless kind'}; only files, directories and links can be built from`,
          );
      }
    },
    finish() {
      const known = new Map<string, string | null>();
      for (const [path, target] of links) {
        if (resolveLink(path, links, known) === null) {
          throw refuse(
            `the tarball’s link ${quote(path)} leads out of the tree, to ${quote(target)}, or round in a circle; make it anew with what the link leads to, or without it`,
          );
        }
      }
    },
  };
};

/** The most links that Linux follows in one path (path_resolution(7)). */
const MAX_LINKS = 40;

/**
 * Where a symbolic link ends, following every link on the way, as if the tree were the root of a file system; `null` if it climbs
 * out of the tree, goes round in a circle or through more than 40 links. `known` keeps what was found, so that no link is followed twice.
 */
export const resolveLink = (
  path: string,
  links: ReadonlyMap<string, string>,
  known = new Map<string, string | null>(),
  depth = 1,
): string | null => {
  const found = known.get(path);
  if (found !== undefined) return found;
  if (depth > MAX_LINKS) return null;
  // A link counts as endless until its end is found, so a link that leads back to itself stays so.
  known.set(path, null);
  const target = links.get(path) ?? '';
  const at = target.startsWith('/') ? [] : path.split('/').slice(0, -1);
  for (const part of target.split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..') {
      if (at.pop() === undefined) return null;
      continue;
    }
    at.push(part);
    if (at.length > MAX_DEPTH) return null;
    const here = at.join('/');
    if (!links.has(here)) continue;
    const end = resolveLink(here, links, known, depth + 1);
    if (end === null) return null;
    at.splice(0, at.length, ...(end === '' ? [] : end.split('/')));
  }
  const end = at.join('/');
  known.set(path, end);
  return end;
};
