import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { HostConf } from './conf.ts';
import { DkmsEnd } from './end.ts';
import type { DkmsRun } from './run.ts';
import type { DkmsPlaces } from './session.ts';
import { ANY, builtHome, labelOf, statusRows, type Target } from './tree.ts';

/** The names of `BUILD_DEPENDS` that are not installed for the kernel. */
export const missingDependencies = async (
  run: DkmsRun,
  target: Target,
  { dependencies }: HostConf,
): Promise<readonly string[]> => {
  const missing: string[] = [];
  for (const module of dependencies) {
    const rows = await statusRows(run.session.places, {
      ...ANY,
      module,
      release: target.release,
      arch: target.arch,
    });
    if (!rows.some(({ state }) => state === 'installed')) missing.push(module);
  }
  return missing;
};

/** Throws where a dependency is missing; with force it is only told. */
export const refuseMissing = (
  { session }: DkmsRun,
  target: Target,
  missing: readonly string[],
): void => {
  if (missing.length === 0) return;
  const what = `module ${labelOf(target)} for kernel ${target.release} (${target.arch})`;
  const which = `missing BUILD_DEPENDS: ${missing.join(' ')}.`;
  if (!session.call.force)
    throw new DkmsEnd(13, [
      `Aborting build of ${what} due to ${which}`,
      'You may override by specifying --force.',
    ]);
  session.complain(`Warning: Trying to build ${what} despite of ${which}`);
};

/** Keeps the versions of what was built against, so that other versions have it built anew (`BUILD_DEPENDS_REBUILD`). */
export const noteDependencies = async (
  { session: { places } }: DkmsRun,
  target: Target,
  { dependencies }: HostConf,
): Promise<void> => {
  for (const module of dependencies) {
    const version = await newestOf(places, module, target);
    if (version !== null)
      await writeFile(join(builtHome(places, target), `.dep_${module}`), `${version}\n`);
  }
};

/** The newest version of a module in the tree; `null` if there is none. */
const newestOf = async (
  places: DkmsPlaces,
  module: string,
  { release, arch }: Pick<Target, 'release' | 'arch'>,
): Promise<string | null> => {
  const rows = await statusRows(places, { ...ANY, module, release, arch });
  return (
    rows
      .map(({ version }) => version)
      .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
      .at(-1) ?? null
  );
};

/** Whether a module was built against another version of a dependency than the tree has now. */
export const isOutdated = async (
  places: DkmsPlaces,
  target: Target,
  { dependencies }: HostConf,
): Promise<boolean> => {
  for (const module of dependencies) {
    const version = await newestOf(places, module, target);
    if (version === null) continue;
    const noted = await readFile(join(builtHome(places, target), `.dep_${module}`), 'utf8').catch(
      () => '',
    );
    if (noted.trim() !== version) return true;
  }
  return false;
};
