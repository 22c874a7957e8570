import { lstat, readdir, readlink, realpath } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { DkmsEnd } from './end.ts';
import { isDirectory, isFile } from './look.ts';
import type { DkmsPlaces } from './session.ts';

/**
 * dkms's tree: what was added and built is there, and nowhere else. `NAME/VERSION/source` leads to a source,
 * `NAME/VERSION/RELEASE/ARCH/{module,log}` is what was built of it, and the link `NAME/kernel-RELEASE-ARCH` says which version is
 * installed: it changes in the transaction that lays the modules down.
 */

/** A version of a source. */
export interface Added {
  readonly module: string;
  readonly version: string;
}

/** A version of a source, for a kernel. */
export interface Target extends Added {
  readonly release: string;
  readonly arch: string;
}

export const labelOf = ({ module, version }: Added): string => `${module}/${version}`;
export const homeOf = ({ tree }: Pick<DkmsPlaces, 'tree'>, { module, version }: Added): string =>
  join(tree, module, version);
export const sourceLink = (places: DkmsPlaces, added: Added): string =>
  join(homeOf(places, added), 'source');
export const confOf = (places: DkmsPlaces, added: Added): string =>
  join(sourceLink(places, added), 'dkms.conf');
/** The directory that a source is built in: only what a failed build left is there. */
export const buildHome = (places: DkmsPlaces, added: Added): string =>
  join(homeOf(places, added), 'build');
export const builtHome = (places: DkmsPlaces, target: Target): string =>
  join(homeOf(places, target), target.release, target.arch);
export const activeLink = (
  { tree }: Pick<DkmsPlaces, 'tree'>,
  { module, release, arch }: Omit<Target, 'version'>,
): string => join(tree, module, `kernel-${release}-${arch}`);
/** Where the active link of a target leads, relative to it. */
export const activeTarget = ({ version, release, arch }: Target): string =>
  `${version}/${release}/${arch}`;
export const originalsHome = (
  { tree }: Pick<DkmsPlaces, 'tree'>,
  { module, release, arch }: Omit<Target, 'version'>,
): string => join(tree, module, 'original_module', release, arch);

const isLink = (path: string): Promise<boolean> =>
  lstat(path).then(
    (stats) => stats.isSymbolicLink(),
    () => false,
  );

export const isAdded = async (places: DkmsPlaces, added: Added): Promise<boolean> =>
  (await isLink(sourceLink(places, added))) && (await isDirectory(sourceLink(places, added)));

/** Whether the source, or the link to it, is gone: nobody can tell then what was built of it. */
export const isBroken = async (places: DkmsPlaces, added: Added): Promise<boolean> => {
  const link = sourceLink(places, added);
  if (!(await isDirectory(homeOf(places, added)))) return false;
  return (await isLink(link))
    ? !(await isDirectory(link))
    : isDirectory(join(places.sources, `${added.module}-${added.version}`));
};

export const isBuilt = (places: DkmsPlaces, target: Target): Promise<boolean> =>
  isDirectory(join(builtHome(places, target), 'module'));

/** Whether the active link leads to what was built of this version. */
export const isActive = async (places: DkmsPlaces, target: Target): Promise<boolean> => {
  const link = activeLink(places, target);
  const leads = await readlink(link).catch(() => null);
  if (leads === null) return false;
  const place = await realpath(link).catch(() => null);
  return (
    leads === activeTarget(target) ||
    (place !== null && place === (await realpath(builtHome(places, target)).catch(() => '')))
  );
};

export const isInstalled = async (places: DkmsPlaces, target: Target): Promise<boolean> =>
  (await isBuilt(places, target)) && (await isActive(places, target));

/** A line of `dkms status`. */
export type Row =
  | ({ readonly state: 'broken' } & Added)
  | ({ readonly state: 'added' } & Added)
  | ({ readonly state: 'built' | 'installed' } & Target);

/** What rows are asked for; '' for any. */
export interface Asked {
  readonly module: string;
  readonly version: string;
  readonly release: string;
  readonly arch: string;
}

export const ANY: Asked = { module: '', version: '', release: '', arch: '' };

/** All that dkms has and what became of it, in the order of names. */
export const statusRows = async (places: DkmsPlaces, asked: Asked): Promise<readonly Row[]> => {
  const rows: Row[] = [];
  for (const added of await versionsIn(places, asked)) {
    if (await isBroken(places, added)) rows.push({ state: 'broken', ...added });
    else if (await isAdded(places, added)) {
      const built = await builtRows(places, added, asked);
      rows.push(...(built.length > 0 ? built : [{ state: 'added' as const, ...added }]));
    }
  }
  return rows;
};

/** Whether a directory below a version's is a kernel's: packages, tarballs and the source are beside those. */
export const isRelease = (name: string): boolean => /^[0-9]+\./.test(name);

/** The kernels that a version is built for. */
export const builtRows = async (
  places: DkmsPlaces,
  added: Added,
  asked: Pick<Asked, 'release' | 'arch'> = ANY,
): Promise<readonly Extract<Row, Target>[]> => {
  const rows: Extract<Row, Target>[] = [];
  const home = homeOf(places, added);
  for (const release of await namesIn(home)) {
    if (asked.release === '' ? !isRelease(release) : release !== asked.release) continue;
    for (const arch of await namesIn(join(home, release))) {
      if (asked.arch !== '' && arch !== asked.arch) continue;
      const target = { ...added, release, arch };
      if (!(await isBuilt(places, target))) continue;
      rows.push({ state: (await isActive(places, target)) ? 'installed' : 'built', ...target });
    }
  }
  return rows;
};

/** The directories NAME/VERSION of the tree. */
export const versionsIn = async (
  places: DkmsPlaces,
  asked: Pick<Asked, 'module' | 'version'> = ANY,
): Promise<readonly Added[]> => {
  const found: Added[] = [];
  for (const module of asked.module === '' ? await namesIn(places.tree) : [asked.module])
    for (const version of asked.version === ''
      ? await namesIn(join(places.tree, module))
      : [asked.version]) {
      if (/^kernel-.*-/.test(version) || version === 'original_module') continue;
      if (await isDirectory(join(places.tree, module, version))) found.push({ module, version });
    }
  return found;
};

const namesIn = async (directory: string): Promise<readonly string[]> =>
  (await readdir(directory).catch(() => [])).filter((name) => !name.startsWith('.')).sort();

/** Throws unless a version is in the tree and whole, as dkms says it. */
export const mustBeAdded = async (places: DkmsPlaces, added: Added): Promise<void> => {
  await mustNotBeBroken(places, added);
  if (!(await isAdded(places, added)))
    throw new DkmsEnd(3, [
      `The module/version combo: ${labelOf(added)} is not located in the DKMS tree.`,
    ]);
};

export const mustNotBeBroken = async (places: DkmsPlaces, added: Added): Promise<void> => {
  if (!(await isBroken(places, added))) return;
  throw new DkmsEnd(4, [
    `${labelOf(added)} is broken!`,
    'Missing the source directory or the symbolic link pointing to it.',
    'Manual intervention is required!',
  ]);
};

const MODULE_FILE = /\.ko(\.gz|\.xz|\.zst)?$/;

/** The file of a module in a directory, however it is compressed; `null` if there is none. */
export const moduleIn = async (directory: string, name: string): Promise<string | null> => {
  for (const suffix of ['', '.gz', '.xz', '.zst']) {
    const place = join(directory, `${name}.ko${suffix}`);
    if (await isFile(place)) return place;
  }
  return null;
};

/** Every file of a module below a directory, links not followed. */
export const modulesBelow = async (directory: string, name: string): Promise<readonly string[]> => {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(
    () => [],
  );
  return entries
    .filter(
      (entry) =>
        entry.isFile() &&
        MODULE_FILE.test(entry.name) &&
        basename(entry.name).replace(MODULE_FILE, '') === name,
    )
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
};
