import { readFile, readlink, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { KilnError } from '../services/core/errors.ts';
import { handedOverTo } from '../services/core/kernel.ts';
import type { Host } from './host.ts';
import { collect } from './pack.ts';
import { walk, type Found } from './tree.ts';

/** Where distributions put headers; what links lead to elsewhere is not part of them. */
const HEADER_ROOT = /^\/usr\/(?:src\/kernels|src|lib)\/(?!modules\/)[^/]+/;
const MAX_ROOTS = 8;

/**
 * The headers of a kernel on a host: the tree behind `/lib/modules/RELEASE/build`, with everything its links and its Makefile
 * lead to. A distribution's stand from `/` in the result, a tree of one's own at its top. Throws `not-found`.
 */
export const findHeaders = async (host: Host, release: string): Promise<readonly Found[]> => {
  const link = join(host.root, 'lib/modules', release, 'build');
  const home = await resolveInside(host.root, link);
  if (home === null || !(await isDirectory(home))) {
    throw new KilnError(
      'not-found',
      `${link} leads to no headers; install the headers of ${release}, or give a directory or packages`,
    );
  }
  const inside = (path: string): string =>
    host.root === '/' ? path : path.slice(host.root.length);
  const root = HEADER_ROOT.exec(inside(home))?.[0];
  if (root === undefined) return ownTree(host, home);
  const found: Found[] = [];
  const wanted = [root];
  for (const each of wanted) {
    if (wanted.length > MAX_ROOTS) {
      throw new KilnError(
        'bad-kernel',
        `the headers of ${release} lead to over ${MAX_ROOTS} directories: ${wanted.slice(0, 3).join(', ')}, …`,
      );
    }
    const part = await collect(walk(join(host.root, each), each.slice(1)));
    found.push(...part);
    for (const target of await leadsTo(part)) {
      const next = HEADER_ROOT.exec(target)?.[0];
      if (next === undefined || wanted.includes(next)) continue;
      if (await isDirectory(join(host.root, next))) wanted.push(next);
    }
  }
  return found;
};

/**
 * A kernel tree of one's own. One that was built outside its source (`make O=DIR`) has a Makefile that hands over to that source, and
 * maybe a link to it: both together are what a build in the source itself would have left.
 */
const ownTree = async ({ root }: Host, home: string): Promise<readonly Found[]> => {
  const built = await collect(walk(home));
  const makefile = built.find(({ path }) => path === 'Makefile');
  if (makefile?.kind !== 'file') return built;
  const source = handedOverTo(await readFile(makefile.place, 'utf8'));
  if (source === null || !(await isDirectory(join(root, source)))) return built;
  const added = built.filter(({ path }) => path !== 'Makefile' && path !== 'source');
  const paths = new Set(added.map(({ path }) => path));
  const sources = await collect(walk(join(root, source)));
  return [...sources.filter(({ path }) => !paths.has(path)), ...added];
};

/** Where a link of a host leads, its absolute targets taken from that host's root. */
const resolveInside = async (root: string, link: string, hops = 0): Promise<string | null> => {
  const target = await readlink(link).catch(() => null);
  if (target === null) return link;
  if (hops > MAX_ROOTS) return null;
  const next = target.startsWith('/') ? join(root, target) : resolve(dirname(link), target);
  return resolveInside(root, next, hops + 1);
};

/** Absolute places that links, and Makefiles that only include another, lead to. */
const leadsTo = async (found: readonly Found[]): Promise<readonly string[]> => {
  const places: string[] = [];
  for (const each of found) {
    if (each.kind === 'symlink') places.push(resolve('/', dirname(each.path), each.target));
    else if (/^usr\/src\/(kernels\/)?[^/]+\/Makefile$/.test(each.path) && each.size < 4096) {
      const text = await readFile(each.place, 'utf8');
      places.push(...[...text.matchAll(/^include (\/\S+)$/gm)].map((match) => match[1] ?? ''));
    }
  }
  return places;
};

const isDirectory = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
