import { isThere } from './look.ts';
import {
  confOf,
  isActive,
  isBuilt,
  labelOf,
  statusRows,
  versionsIn,
  builtRows,
  ANY,
  type Added,
  type Target,
} from './tree.ts';
import { dropBuilt, uninstallModules, unbuild } from './uninstall.ts';
import { DkmsEnd, EXIT } from './end.ts';
import { installModule } from './install.ts';
import type { DkmsRun } from './run.ts';
import { tellEnd } from './session.ts';
import { statusOf } from './status-of.ts';

export const NO_AUTOINSTALL = '/etc/dkms/no-autoinstall';

/** `dkms autoinstall`: the newest version of every source that wants it, dependencies first. Throws `DkmsEnd(11)` where one failed. */
export const autoinstall = async (
  run: DkmsRun,
  kernel: Pick<Target, 'release' | 'arch'>,
): Promise<void> => {
  const { session } = run;
  if (await isThere(NO_AUTOINSTALL)) {
    session.say('Automatic installation of modules has been disabled.');
    return;
  }
  const done: string[] = [];
  const skipped: string[] = [];
  const failed: string[] = [];
  let waiting: { readonly target: Target; readonly needs: readonly string[] }[] = [];
  for (const added of await newestVersions(run)) {
    const target = { ...added, ...kernel };
    if (await isActive(session.places, target)) {
      done.push(added.module);
      continue;
    }
    const conf = await run.confs.read({ ...target, file: confOf(session.places, target) });
    if (conf.isAutoinstalled) waiting.push({ target, needs: conf.dependencies });
  }
  if (waiting.length === 0) return;
  for (let progress = true; progress;) {
    progress = false;
    const isDone = (name: string): boolean => done.includes(name) || skipped.includes(name);
    const now = waiting.filter(({ needs }) => needs.every(isDone));
    waiting = waiting.filter((each) => !now.includes(each));
    for (const { target, needs } of now) {
      if (!(await isBuilt(session.places, target))) await run.prepare(target, needs);
      session.say(
        `Autoinstall of module ${labelOf(target)} for kernel ${target.release} (${target.arch})`,
      );
      const status = await statusOf(run, () => installModule(run, target));
      if (status === 0) done.push(target.module);
      else if (status === EXIT.excluded) skipped.push(target.module);
      else failed.push(`${target.module}(${status})`);
      progress ||= status === 0 || status === EXIT.excluded;
      session.say('');
    }
  }
  const tell = (what: string, names: readonly string[]): void => {
    if (names.length > 0)
      session.say(`Autoinstall on ${kernel.release} ${what} for module(s) ${names.join(' ')}.`);
  };
  tell('succeeded', done);
  tell('was skipped', skipped);
  tell('failed', failed);
  for (const { target, needs } of waiting) {
    const missing = needs.filter((name) => !done.includes(name) && !skipped.includes(name));
    session.say(
      `${labelOf(target)} autoinstall failed due to missing dependencies: ${missing.join(' ')}.`,
    );
  }
  if (failed.length > 0 || waiting.length > 0)
    throw new DkmsEnd(11, [
      'One or more modules failed to install during autoinstall.',
      'Refer to previous errors for more information.',
    ]);
};

/** The newest version of each source in the tree; broken ones are told of and left out. */
export const newestVersions = async ({ session }: DkmsRun): Promise<readonly Added[]> => {
  const newest = new Map<string, Added>();
  for (const row of await statusRows(session.places, ANY)) {
    if (row.state === 'broken') {
      tellEnd(
        session,
        new DkmsEnd(0, [
          `${labelOf(row)} is broken! Missing the source directory or the symbolic link pointing to it.`,
          'Manual intervention is required!',
        ]),
      );
      continue;
    }
    const before = newest.get(row.module);
    if (before === undefined || comparable(row.version) > comparable(before.version))
      newest.set(row.module, { module: row.module, version: row.version });
  }
  return [...newest.values()];
};

const comparable = (version: string): string =>
  version.replaceAll(/\d+/g, (digits) => digits.padStart(3, '0'));

/**
 * `dkms kernel_prerm` and `kernel_preinst`: takes all that was built off a kernel that goes, or comes anew. `wantsAll`: also what is not
 * installed by itself.
 */
export const leaveKernel = async (
  run: DkmsRun,
  kernel: Pick<Target, 'release' | 'arch'>,
  wantsAll: boolean,
): Promise<void> => {
  const { session } = run;
  const { places } = session;
  const installed: Target[] = [];
  let isAny = false;
  for (const added of await versionsIn(places)) {
    const [row] = await builtRows(places, added, kernel);
    if (row === undefined) continue;
    const conf = await run.confs.read({ ...row, file: confOf(places, row) });
    if (!wantsAll && !conf.isAutoinstalled) continue;
    isAny = true;
    if (row.state === 'installed') installed.push(row);
    else {
      session.complain(
        `dkms: removing module ${labelOf(row)} for kernel ${row.release} (${row.arch})`,
      );
      await unbuild(run, row);
      session.say('');
    }
  }
  if (!isAny || installed.length === 0) return;
  await uninstallModules(run, installed, (target) => dropBuilt(run, target), true);
  session.say('Running depmod... done.');
};
