import { chmod, mkdir, mkdtemp, readdir, rename, rm, symlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { syncPath } from '../transaction/whole-file.ts';
import { isThere } from './look.ts';

/**
 * Directories of dkms's tree that come and go whole: whoever looks, after a power cut too, sees all of one or nothing of it. What a cut leaves
 * has a hidden name, which is no version's and no kernel's, and goes with what is beside it.
 */

const ARRIVING = '.kiln-new-';
const GOING = '.kiln-gone-';

/** Removes what a power cut has left in a directory. */
export const dropLeftovers = async (home: string): Promise<void> => {
  for (const name of await readdir(home).catch(() => []))
    if (name.startsWith(ARRIVING) || name.startsWith(GOING))
      await rm(join(home, name), { recursive: true, force: true });
};

/** Removes a directory. */
export const dropWhole = async (place: string): Promise<void> => {
  const going = join(dirname(place), GOING + basename(place));
  await rm(going, { recursive: true, force: true });
  // Where it cannot be renamed (a lower layer of an overlay), it goes piece by piece.
  await rename(place, going).catch(() => rm(place, { recursive: true, force: true }));
  await rm(going, { recursive: true, force: true });
};

/** Puts a directory into place once `fill` has filled it, in place of what is there. What `fill` writes must be on the disk when it ends. */
export const layWhole = async (
  place: string,
  fill: (arrival: string) => Promise<void>,
): Promise<void> => {
  await mkdir(dirname(place), { recursive: true, mode: 0o755 });
  const arrival = await mkdtemp(join(dirname(place), `${ARRIVING}${basename(place)}-`));
  try {
    await chmod(arrival, 0o755);
    await fill(arrival);
    await dropWhole(place);
    await rename(arrival, place);
    await syncPath(dirname(place));
  } catch (error) {
    await rm(arrival, { recursive: true, force: true });
    throw error;
  }
};

/** Makes a version's directory: its link to the source, and the directory to build in. One that has lost its link gets it again. */
export const layVersion = async (place: string, source: string): Promise<void> => {
  await mkdir(dirname(place), { recursive: true, mode: 0o755 });
  await dropLeftovers(dirname(place));
  const arrival = join(dirname(place), ARRIVING + basename(place));
  await mkdir(join(arrival, 'build'), { recursive: true, mode: 0o755 });
  await symlink(source, join(arrival, 'source'));
  if (!(await isThere(place))) return rename(arrival, place);
  await mkdir(join(place, 'build'), { recursive: true, mode: 0o755 });
  await rename(join(arrival, 'source'), join(place, 'source'));
  return rm(arrival, { recursive: true });
};
