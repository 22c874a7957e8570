import { rm } from 'node:fs/promises';
import { machine } from 'node:os';
import { join } from 'node:path';
import { hostKernels } from '../host/host.ts';
import { isThere } from './look.ts';
import type { DkmsRun } from './run.ts';
import { confOf, homeOf, isActive, versionsIn, type Added } from './tree.ts';

/**
 * A package that is configured has its source installed, also one without AUTOINSTALL: dkms's `common.postinst` does so at once. Ours leaves
 * this file beside the source, and whoever brings kernels up next, the package manager's trigger or the timer, does it.
 */
const ASKED = '.kiln-asked';

/** Whether a package waits for its source to be installed. */
export const isAskedFor = ({ session: { places } }: DkmsRun, added: Added): Promise<boolean> =>
  isThere(join(homeOf(places, added), ASKED));

/** Forgets what packages asked for where every kernel of the host has it now, or is none for it. */
export const forgetGranted = async (run: DkmsRun): Promise<void> => {
  const { places, host } = run.session;
  for (const added of await versionsIn(places)) {
    if (!(await isAskedFor(run, added))) continue;
    let isGranted = true;
    for (const release of await hostKernels(host)) {
      const target = { ...added, release, arch: machine() };
      const conf = await run.confs
        .read({ ...target, file: confOf(places, target) })
        .catch(() => null);
      isGranted &&= conf?.isExcluded === true || (await isActive(places, target));
    }
    if (isGranted) await rm(join(homeOf(places, added), ASKED), { force: true });
  }
};
