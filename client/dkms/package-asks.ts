import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { hostKernels } from '../host/host.ts';
import type { Granted } from '../install/wish.ts';
import { writeWhole } from '../transaction/whole-file.ts';
import type { DkmsRun } from './run.ts';
import type { DkmsSession } from './session.ts';
import { homeOf, isActive, versionsIn, type Added, type Target } from './tree.ts';

/**
 * A package that is configured has its source installed for the kernels that are there, also one without AUTOINSTALL: dkms's
 * `common.postinst` does so at once. Ours leaves their releases in this file beside the source, and whoever brings kernels up next, the
 * package manager's trigger or the timer, does it.
 */
const ASKED = '.kiln-asked';

const fileOf = ({ places }: DkmsSession, added: Added): string =>
  join(homeOf(places, added), ASKED);

/** Notes that a source is to be installed for all kernels of the host. */
export const askForAll = async (session: DkmsSession, added: Added): Promise<void> => {
  const releases = await hostKernels(session.host);
  await writeWhole(fileOf(session, added), Buffer.from(`${releases.join('\n')}\n`));
};

/** The kernels that a package waits for its source to be installed for. */
export const askedKernels = async (
  { session }: DkmsRun,
  added: Added,
): Promise<readonly string[]> => {
  const text = await readFile(fileOf(session, added), 'utf8').catch(() => '');
  return text.split('\n').filter((release) => release !== '');
};

/**
 * Forgets what packages asked for where the kernel has it now, is none for it, or has gone, and where another version is the source's
 * newest. `granted`: what became of those that were tried.
 */
export const forgetGranted = async (
  run: DkmsRun,
  newest: readonly Added[],
  granted: readonly Granted[],
  arch: string,
): Promise<void> => {
  const { session } = run;
  const kernels = await hostKernels(session.host);
  const isOver = async (target: Target): Promise<boolean> =>
    !kernels.includes(target.release) ||
    (await isActive(session.places, target)) ||
    granted.some(
      ({ name, release, problem }) =>
        name === target.module &&
        release === target.release &&
        (problem?.code === 'excluded' || problem?.code === 'in-tree'),
    );
  for (const added of await versionsIn(session.places)) {
    const asked = await askedKernels(run, added);
    if (asked.length === 0) continue;
    const isNewest = newest.some(
      ({ module, version }) => module === added.module && version === added.version,
    );
    const left: string[] = [];
    for (const release of isNewest ? asked : [])
      if (!(await isOver({ ...added, release, arch }))) left.push(release);
    if (left.length === asked.length) continue;
    if (left.length === 0) await rm(fileOf(session, added), { force: true });
    else await writeWhole(fileOf(session, added), Buffer.from(`${left.join('\n')}\n`));
  }
};
