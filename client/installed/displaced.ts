import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Change } from '../transaction/change.ts';
import { inModules, placeToChange, type Host } from '../host/host.ts';
import { moduleName } from '../host/kernel-modules.ts';
import { INSTALL_DIRECTORY, leadsToOurs, type Receipt } from './receipts.ts';

/** Where modules lie that were moved aside, below the host's root. */
const DISPLACED = 'var/lib/kiln/displaced';

/** Directories that depmod prefers to the kernel's own modules: there may be one of the same name that is not ours. */
const RIVALS = ['updates', 'extra', 'weak-updates'];
const RIVAL_LIMIT = 5000;
const MODULE_FILE = /\.ko(\.gz|\.xz|\.zst)?$/;

/** What stands in the way of modules on a kernel and is moved aside for them, and all that is aside then. */
export const displacedBy = async (
  host: Host,
  release: string,
  laid: Receipt['modules'],
  before: Receipt | null,
  receipts: readonly Receipt[],
): Promise<{ readonly list: Receipt['displaced']; readonly changes: readonly Change[] }> => {
  const names = new Set(laid.map(({ modname }) => moduleName(modname)));
  const ours = new Set(
    receipts
      .filter((each) => each.release === release)
      .flatMap((each) => each.modules.map(({ path }) => path)),
  );
  // What was moved aside for a receipt that was lost is still there.
  const list = [...(before?.displaced ?? (await keptAside(host, release, names)))];
  const changes: Change[] = [];
  for (const directory of RIVALS) {
    const home = join(host.root, inModules(release, directory));
    const files = await readdir(home, { recursive: true }).catch(() => []);
    for (const file of files.slice(0, RIVAL_LIMIT)) {
      const path = `${directory}/${file}`;
      if (!MODULE_FILE.test(file) || !names.has(moduleName(file))) continue;
      if (ours.has(path) || path.startsWith(`${INSTALL_DIRECTORY}/`)) continue;
      // Where two kernels have one each, weak-modules links each other's beside them.
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
    .filter((path) => MODULE_FILE.test(path) && names.has(moduleName(path)))
    .map((path) => ({ path, kept: `${home}/${path}` }));
};

/** What is at a path of a host, as a change puts it there; `null` where nothing is. */
export const fileOrLink = async (
  host: Host,
  path: string,
): Promise<Exclude<Change['to'], null> | null> => {
  const place = await placeToChange(host, path);
  const link = await readlink(place).catch(() => null);
  return link === null ? readFile(place).catch(() => null) : { link };
};
