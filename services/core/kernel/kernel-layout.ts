import { KilnError } from '../errors.ts';
import { movedPath, type Move, type TreeEntry } from '../tree/tree.ts';

/** Where the parts of a kernel's headers stand in a tarball and go to in its tree. */
export interface KernelLayout {
  readonly moves: readonly Move[];
  /** The build tree's path in the tree. */
  readonly home: string;
  /** The tree that the build tree's Makefile hands over to, from `/`; `null` where it hands over to none. */
  readonly source: string | null;
  /** Parts that links lead to, that are not there, and that no build of a module in C needs; from `/`. */
  readonly missing: readonly string[];
}

/** The place from `/` of a directory that distributions put headers in, for a path in it: `usr/src/NAME`, `usr/src/kernels/NAME` or `usr/lib/NAME`. */
export const headerPart = (path: string): string | null =>
  /^usr\/(?:src\/kernels|src|lib)\/(?!modules(?:\/|$))[^/]+/.exec(path)?.[0] ?? null;

/**
 * Where headers from a distribution stand: what is before `usr/src`, or before Arch's `usr/lib/modules/REL/build`, and the path from there.
 * The last such place in a path counts. `null` for a tree of one's own.
 */
export const standingPlace = (
  path: string,
): { readonly root: string; readonly place: string } | null => {
  const whole = `/${path}`;
  const inSrc = whole.slice(0, -1).lastIndexOf('/usr/src/');
  const at = inSrc < 0 ? (/\/usr\/lib\/modules\/[^/]+\/build$/.exec(whole)?.index ?? -1) : inSrc;
  return at < 0 ? null : { root: whole.slice(1, at), place: whole.slice(at + 1) };
};

/**
 * The directory that a build tree's Makefile hands over to, in its own words: Debian's, openSUSE's and those of `make O=DIR`
 * (source: the kernel's `outputmakefile`; until 5.1 its `scripts/mkmakefile`).
 */
export const handedOverTo = (makefile: string): string | null =>
  /^include ([^\s$]+)\/Makefile$/m.exec(makefile)?.[1] ??
  /^MAKEARGS *:= *-C ([^\s$]+)$/m.exec(makefile)?.[1] ??
  null;

/** A path below a directory, `.` and `..` resolved as if `/` were the top; without the first slash. */
export const pathFrom = (directory: string, path: string): string => {
  const parts = path.startsWith('/') ? [] : directory.split('/').filter((part) => part !== '');
  for (const part of path.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return parts.join('/');
};

/** The directory that a path is in, '' for the top. */
const above = (path: string): string => path.slice(0, Math.max(path.lastIndexOf('/'), 0));

const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1);

const isWithin = (path: string, directory: string): boolean =>
  directory === '' || path.startsWith(`${directory}/`);

/** A link of a tree. */
type Link = Pick<Extract<TreeEntry, { kind: 'symlink' }>, 'path' | 'target'>;

/** A link, or a Makefile, that leads to another place. */
export interface Lead {
  readonly to: string;
  /** The link's path; `null` is the Makefile of the build tree. */
  readonly by: string | null;
}

/** Where links lead to. */
export const linkLeads = (links: readonly Link[]): readonly Lead[] =>
  links.map(({ path, target }) => ({ to: pathFrom(above(path), target), by: path }));

/** Where the Makefile of a build tree leads to. */
export const makefileLeads = (home: string, makefile: string | null): readonly Lead[] => {
  const named = makefile === null ? null : handedOverTo(makefile);
  return named === null ? [] : [{ to: pathFrom(home, named), by: null }];
};

const isIn = (path: string, parts: readonly string[]): boolean =>
  parts.some((part) => path === part || isWithin(path, part));

/** The part that a lead leads to; `null` if that part is known already, or is no place of headers. */
export const newPart = ({ to }: Lead, known: readonly string[]): string | null =>
  isIn(to, known) ? null : headerPart(to);

/** A distribution's headers of one kernel are one to four directories. */
export const MAX_PARTS = 16;

/** Links in a build tree to what building a module in C does not need: Rust's libraries, and where `make O=DIR` had the source. */
const OPTIONAL = new Set(['rust', 'source']);

/** The parts of a tarball that decide its layout. */
export interface BuildTree {
  readonly entries: readonly TreeEntry[];
  /** The directory in it with the `.config`. */
  readonly home: string;
  readonly makefile: string | null;
  readonly release: string;
}

/**
 * Lays out a kernel's headers: the build tree with all that its links and its Makefile lead to, whatever that is called. A distribution's
 * stand where its packages put them; a tree of one's own goes to `/usr/src/linux-headers-RELEASE`.
 * Throws `KilnError('bad-kernel')` naming the part that is not there.
 */
export const layKernel = (given: BuildTree): KernelLayout => {
  const anchor = anchorOf(given);
  const placed = given.entries.flatMap((entry) => {
    const path = movedPath(entry.path, [anchor]);
    return path === null ? [] : [{ ...entry, path }];
  });
  const home = backFrom(given.home, { from: anchor.to, to: anchor.from });
  const [source = null] = makefileLeads(home, given.makefile);
  const { parts, missing } = reach(placed, home, source);
  if (source !== null && !isIn(source.to, parts))
    throw bad(`the headers’ Makefile hands over to /${source.to}, ${NOT_THERE}`);
  for (const [part, links] of missing) {
    const needed = links.filter((link) => above(link) !== home || !OPTIONAL.has(nameOf(link)));
    if (needed.length > 0)
      throw bad(`the headers’ ${few(needed.map(nameOf))} lead to /${part}, ${NOT_THERE}`);
  }
  return {
    moves: parts.toSorted().map((to) => ({ from: backFrom(to, anchor), to, headersOnly: true })),
    home,
    source: source === null || source.to === home ? null : `/${source.to}`,
    missing: [...missing].flatMap(([part, links]) =>
      links.some((link) => nameOf(link) === 'rust') ? [`/${part}`] : [],
    ),
  };
};

/** The parts that a build tree leads to, by way of each other, and those that are not there with the links that lead to them. */
const reach = (
  entries: readonly TreeEntry[],
  home: string,
  source: Lead | null,
): { readonly parts: readonly string[]; readonly missing: ReadonlyMap<string, string[]> } => {
  const there = new Set(entries.map(({ path }) => headerPart(path)));
  const links = entries.flatMap((entry) => (entry.kind === 'symlink' ? [entry] : []));
  const parts = [home];
  const missing = new Map<string, string[]>();
  for (const part of parts) {
    const leads = linkLeads(links.filter(({ path }) => isWithin(path, part)));
    for (const lead of part === home && source !== null ? [source, ...leads] : leads) {
      const next = newPart(lead, parts);
      if (next === null) continue;
      if (there.has(next)) parts.push(next);
      else if (lead.by !== null) missing.set(next, [...(missing.get(next) ?? []), lead.by]);
    }
    if (parts.length > MAX_PARTS)
      throw bad(`the headers lead to over ${MAX_PARTS} directories; send those of one kernel`);
  }
  return { parts, missing };
};

const NOT_THERE =
  'which is not among them; send both together (kiln kernel push on the host that has them, or the packages of both)';

const bad = (message: string): KilnError => new KilnError('bad-kernel', message);

const few = (names: readonly string[]): string => {
  const shown = names.slice(0, 3).join(', ');
  return `${names.length === 1 ? 'link' : 'links'} ${shown}${names.length > 3 ? ` and ${names.length - 3} more` : ''}`;
};

/** The place of a tarball on a host: a directory in it, and the path of that directory there. */
const anchorOf = ({ entries, home, makefile, release }: BuildTree): Move => {
  const stands = standingPlace(home);
  if (stands !== null) return { from: stands.root, to: '' };
  const links = entries.flatMap((entry) =>
    entry.kind === 'symlink' && isWithin(entry.path, home) ? [entry] : [],
  );
  const leads = [...makefileLeads(home, makefile), ...linkLeads(links)];
  const outside = leads.filter(({ to }) => to !== home && !isWithin(to, home));
  // A tarball that was made in /usr/src has the parts beside each other.
  for (let beside = home; beside !== '';) {
    beside = above(beside);
    const top = beside === '' ? '' : `${beside}/`;
    const names = new Set(outside.map(({ to }) => nameBelow(to, top) ?? nameBelow(to, 'usr/src/')));
    names.delete(nameBelow(home, top));
    for (const name of names)
      if (name !== null && entries.some(({ path }) => path.startsWith(`${top}${name}/`)))
        return { from: beside, to: 'usr/src' };
  }
  return { from: home, to: `usr/src/linux-headers-${release}` };
};

/** The first name of a path below a directory, which ends with `/` or is ''; `null` where the path is not in it. */
const nameBelow = (path: string, directory: string): string | null =>
  path.startsWith(directory) ? (path.slice(directory.length).split('/')[0] ?? '') : null;

/** Where a place of the tree is in the tarball. */
const backFrom = (place: string, { from, to }: Move): string =>
  `${from}/${place.slice(to.length).replace(/^\//, '')}`.replace(/^\//, '').replace(/\/$/, '');
