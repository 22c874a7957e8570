import { readFile, readlink, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { KilnError } from '../../services/core/errors.ts';
import { handedOverTo } from '../../services/core/kernel.ts';
import type { Host } from '../host/host.ts';
import { collect } from './pack.ts';
import { walk, type Found } from './tree.ts';

/** Where distributions put headers; what links lead to elsewhere is not part of them. */
const HEADER_ROOT = /^\/usr\/(?:src\/kernels|src|lib)\/(?!modules\/)[^/]+/;
const MAX_ROOTS = 8;
/** As many links as Linux follows in one path. */
const MAX_LINKS = 40;

/**
 * The headers of a kernel on a host: the tree behind `/lib/modules/RELEASE/build`, with everything its links and its Makefile
 * lead to. A distribution's stand from `/` in the result, a tree of one's own at its top. Throws `not-found`.
 */
export const findHeaders = async (host: Host, release: string): Promise<readonly Found[]> => {
  const link = join('/lib/modules', release, 'build');
  const home = await resolveInside(host.root, link);
  if (home === null || !(await isDirectory(join(host.root, home)))) {
    throw new KilnError(
      'not-found',
      `${join(host.root, link)} leads to no headers; install the headers of ${release}, or give a directory or packages`,
    );
  }
  const root = HEADER_ROOT.exec(home)?.[0];
  if (root === undefined) return ownTree(host.root, home);
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
const ownTree = async (root: string, home: string): Promise<readonly Found[]> => {
  const built = await collect(walk(join(root, home)));
  const makefile = built.find(({ path }) => path === 'Makefile');
  if (makefile?.kind !== 'file') return built;
  const source = handedOverTo(await readFile(makefile.place, 'utf8'));
  if (source === null || !(await isDirectory(join(root, source)))) return built;
  const added = built.filter(({ path }) => path !== 'Makefile' && path !== 'source');
  const paths = new Set(added.map(({ path }) => path));
  const sources = await collect(walk(join(root, source)));
  return [...sources.filter(({ path }) => !paths.has(path)), ...added];
};

/**
 * Where a path of a host leads: that path with no link left in it, every target taken from that host's root. A relative one starts where
 * its link really is: where `/lib` is a link, that is not where the path has it. `null` for links that lead round and round.
 */
const resolveInside = async (root: string, path: string): Promise<string | null> => {
  const ahead = path.split('/');
  let place = '/';
  let links = 0;
  for (let name = ahead.shift(); name !== undefined; name = ahead.shift()) {
    const next = join(place, name);
    const target = await readlink(join(root, next)).catch(() => null);
    if (target === null) {
      place = next;
      continue;
    }
    links += 1;
    if (links > MAX_LINKS) return null;
    ahead.unshift(...target.split('/'));
    if (target.startsWith('/')) place = '/';
  }
  return place;
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
