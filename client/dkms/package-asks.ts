import { mkdir, readdir, rm, rmdir } from 'node:fs/promises';
import { machine } from 'node:os';
import { join } from 'node:path';
import { hostKernels } from '../host/host.ts';
import { forEverybody } from '../host/umask.ts';
import type { Granted } from '../install/wish.ts';
import { writeWhole } from '../transaction/whole-file.ts';
import type { DkmsRun } from './run.ts';
import type { DkmsSession } from './session.ts';
import { homeOf, isActive, type Added, type Target } from './tree.ts';

/**
 * A package that is configured has its source installed for the kernels that are there, also one without AUTOINSTALL: dkms's
 * `common.postinst` does so at once. Ours leaves a file for each of them in this directory beside the source, and whoever brings kernels up
 * next, the package manager's trigger or the timer, does it.
 */
const ASKED = '.kiln-asked';

const directoryOf = ({ places }: DkmsSession, added: Added): string =>
  join(homeOf(places, added), ASKED);

/** Notes that a source is to be installed for all kernels of the host. */
export const askForAll = (session: DkmsSession, added: Added): Promise<void> =>
  forEverybody(async () => {
    const directory = directoryOf(session, added);
    await mkdir(directory, { recursive: true });
    for (const release of await hostKernels(session.host))
      await writeWhole(join(directory, release), Buffer.alloc(0));
  });

/** What packages wait for of some sources. */
export const readAsks = async (
  { session }: DkmsRun,
  sources: readonly Added[],
): Promise<readonly Target[]> => {
  const asks: Target[] = [];
  for (const added of sources)
    for (const release of await readdir(directoryOf(session, added)).catch(() => []))
      asks.push({ ...added, release, arch: machine() });
  return asks;
};

/**
 * Forgets some of what packages ask for: where the kernel has it now, is none for it, or has gone. `granted`: what became of those that were
 * tried.
 */
export const forgetGranted = async (
  { session }: DkmsRun,
  asks: readonly Target[],
  granted: readonly Granted[],
): Promise<void> => {
  const kernels = await hostKernels(session.host);
  for (const target of asks) {
    const refused = granted.some(
      ({ name, release, problem }) =>
        name === target.module &&
        release === target.release &&
        (problem?.code === 'excluded' || problem?.code === 'in-tree'),
    );
    const isThere = kernels.includes(target.release);
    if (isThere && !refused && !(await isActive(session.places, target))) continue;
    const directory = directoryOf(session, target);
    await rm(join(directory, target.release), { force: true });
    // The last one takes the directory with it.
    await rmdir(directory).catch(() => {});
  }
};
