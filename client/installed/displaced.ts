import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Change } from '../transaction/change.ts';
import { inModules, placeToChange, type Host } from '../host/host.ts';
import { moduleNameOf } from '../../services/core/module/module-name.ts';
import { INSTALL_DIRECTORY, leadsToOurs, type Receipt } from './receipts.ts';

/** The directory of modules that were moved aside, below the host's root. */
const DISPLACED = 'var/lib/kiln/displaced';

/** Directories that depmod prefers to the kernel's own modules: another tool may have put a module of the same name there. */
const RIVALS = ['updates', 'extra', 'weak-updates'];
const RIVAL_LIMIT = 5000;
const MODULE_FILE = /\.ko(\.gz|\.xz|\.zst)?$/;

/** Moves modules of the same names out of the way of ours: the changes that do, and the list of all that is aside afterwards. */
export const displacedBy = async (
  host: Host,
  release: string,
  laid: Receipt['modules'],
  before: Receipt | null,
  receipts: readonly Receipt[],
): Promise<{ readonly list: Receipt['displaced']; readonly changes: readonly Change[] }> => {
  const names = new Set(laid.map(({ modname }) => moduleNameOf(modname)));
  const ours = new Set(
    receipts
      .filter((each) => each.release === release)
      .flatMap((each) => each.modules.map(({ path }) => path)),
  );
  // Where the receipt was lost, what had been moved aside for it is found by its place.
  const list = [...(before?.displaced ?? (await keptAside(host, release, names)))];
  const changes: Change[] = [];
  for (const directory of RIVALS) {
    const home = join(host.root, inModules(release, directory));
    const files = await readdir(home, { recursive: true }).catch(() => []);
    for (const file of files.slice(0, RIVAL_LIMIT)) {
      const path = `${directory}/${file}`;
      if (!MODULE_FILE.test(file) || !names.has(moduleNameOf(file))) continue;
      if (ours.has(path) || path.startsWith(`${INSTALL_DIRECTORY}/`)) continue;
      // weak-modules links another kernel's module of ours here even where this kernel has its own: such a link is no rival.
      if (await leadsToOurs(host, inModules(release, path), receipts)) continue;
      const what = await fileOrLink(host, inModules(release, path));
      if (what === null) continue;
      const kept = `${DISPLACED}/${release}/${path}`;
      if (!list.some((each) => each.path === path)) list.push({ path, kept });
      changes.push({ path: kept, to: what }, { path: inModules(release, path), to: null });
    }
  }
  return { list, changes };
};

/** The modules of some names that were moved aside on a kernel. */
const keptAside = async (
  host: Host,
  release: string,
  names: ReadonlySet<string>,
): Promise<Receipt['displaced']> => {
  const home = `${DISPLACED}/${release}`;
  const files = await readdir(join(host.root, home), { recursive: true }).catch(() => []);
  return files
    .filter((path) => MODULE_FILE.test(path) && names.has(moduleNameOf(path)))
    .map((path) => ({ path, kept: `${home}/${path}` }));
};

/** The file or link at a path of a host, in the form that a change takes; `null` where there is none. */
export const fileOrLink = async (
  host: Host,
  path: string,
): Promise<Exclude<Change['to'], null> | null> => {
  const place = await placeToChange(host, path);
  const link = await readlink(place).catch(() => null);
  return link === null ? readFile(place).catch(() => null) : { link };
};
