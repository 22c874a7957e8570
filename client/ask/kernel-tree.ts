import { readFile, readlink, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { KilnError } from '../../services/core/errors.ts';
import {
  handedOverTo,
  linkLeads,
  makefileLeads,
  MAX_PARTS,
  newPart,
  pathFrom,
  standingPlace,
} from '../../services/core/kernel/kernel-layout.ts';
import type { Host } from '../host/host.ts';
import { collect } from './pack.ts';
import { walk, type LocalEntry } from './tree.ts';

/** As many links as Linux follows in one path. */
const MAX_LINKS = 40;

/**
 * The headers of a kernel on a host: the tree behind `/lib/modules/RELEASE/build`, with everything its links and its Makefile
 * lead to. In the result a distribution's headers have their paths from `/`; a self-built tree stands at the top. Throws `not-found`.
 */
export const findHeaders = async (host: Host, release: string): Promise<readonly LocalEntry[]> => {
  const link = join('/lib/modules', release, 'build');
  const home = await resolveInside(host.root, link);
  if (home === null || !(await isDirectory(join(host.root, home)))) {
    throw new KilnError(
      'not-found',
      `${join(host.root, link)} leads to no headers; install the headers of ${release}, or give a directory or packages`,
    );
  }
  const place = standingPlace(home);
  return place?.root === '' ? withItsParts(host.root, place.place) : ownTree(host.root, home);
};

/** The headers in a directory: everything in it and, where it is a build tree, everything that its links and Makefile lead to. */
export const headersIn = async (directory: string): Promise<readonly LocalEntry[]> => {
  const home = await realpath(directory);
  if (!(await isFile(join(home, '.config')))) return collect(walk(directory));
  const stands = standingPlace(home.slice(1));
  return stands === null ? ownTree('/', home) : withItsParts(`/${stands.root}`, stands.place);
};

/** A distribution's headers: the build tree and every tree that it leads to, each at its path from the root. */
const withItsParts = async (root: string, home: string): Promise<readonly LocalEntry[]> => {
  const makefile = await readFile(join(root, home, 'Makefile'), 'utf8').catch(() => null);
  const parts = [home];
  const found: LocalEntry[] = [];
  for (const part of parts) {
    const there = await collect(walk(join(root, part), part));
    found.push(...there);
    const links = there.flatMap((each) => (each.kind === 'symlink' ? [each] : []));
    const leads = [...linkLeads(links), ...(part === home ? makefileLeads(home, makefile) : [])];
    for (const lead of leads) {
      const next = newPart(lead, parts);
      if (next !== null && (await isDirectory(join(root, next)))) parts.push(next);
    }
    if (parts.length > MAX_PARTS) {
      throw new KilnError(
        'bad-kernel',
        `the headers in ${home} lead to over ${MAX_PARTS} directories: ${parts.slice(0, 3).join(', ')}, …`,
      );
    }
  }
  return found;
};

/**
 * A self-built kernel's tree. One that was built outside its source (`make O=DIR`) has a Makefile that hands over to the source, and
 * maybe a link to it: source and output are merged into the tree that a build inside the source would have left.
 */
const ownTree = async (root: string, home: string): Promise<readonly LocalEntry[]> => {
  const built = await collect(walk(join(root, home)));
  const makefile = built.find(({ path }) => path === 'Makefile');
  if (makefile?.kind !== 'file') return built;
  const named = handedOverTo(await readFile(makefile.place, 'utf8'));
  const source = named === null ? null : join(root, pathFrom(home, named));
  if (source === null || !(await isDirectory(source))) return built;
  const added = built.filter(({ path }) => path !== 'Makefile' && path !== 'source');
  const paths = new Set(added.map(({ path }) => path));
  const sources = await collect(walk(source));
  return [...sources.filter(({ path }) => !paths.has(path)), ...added];
};

/**
 * The path on a host without links: every link is followed, with the host's root as `/`. A relative target starts from the link's real
 * directory, which differs from the one in the path where, say, `/lib` is a link itself. `null` for links in a circle.
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

const isDirectory = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );

const isFile = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isFile(),
    () => false,
  );
