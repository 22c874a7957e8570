import { readdir, readFile, rm, rmdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { removeAll } from '../install/remove.ts';
import { readReceipt, type Receipt } from '../installed/receipts.ts';
import { isThere } from './look.ts';
import type { HostConf } from './conf.ts';
import type { DkmsRun } from './run.ts';
import { runScript } from './scripts.ts';
import { dropLeftovers, dropWhole } from './whole.ts';
import { removeForeign } from './foreign.ts';
import {
  ANY,
  activeLink,
  builtHome,
  confOf,
  homeOf,
  isActive,
  isBuilt,
  isInstalled,
  isRelease,
  labelOf,
  originalsHome,
  type Added,
  type Target,
  versionsIn,
} from './tree.ts';

/**
 * Takes modules off kernels: one transaction for all of them, with one depmod for each kernel. Says what dkms says, module by module.
 * `isLate`: depmod is told of by the caller.
 */
export const uninstallModules = async (
  run: DkmsRun,
  targets: readonly Target[],
  after: (target: Target) => Promise<void> = async () => {},
  isLate = false,
): Promise<void> => {
  const { session } = run;
  const { context, host, places } = session;
  const going: Going[] = [];
  for (const target of targets) {
    const conf = await run.confs.read({
      ...target,
      file: session.call.conf ?? confOf(places, target),
    });
    const wasActive = await isActive(places, target);
    const receipt = wasActive ? await receiptOf(run, target) : null;
    const restored = await originLines(run, target);
    const lines =
      receipt !== null
        ? await goingLines(run, receipt)
        : wasActive
          ? await removeForeign(run, target, conf)
          : [];
    going.push({ target, conf, wasActive, receipt, lines, restored });
  }
  const receipts = going.flatMap(({ receipt }) => (receipt === null ? [] : [receipt]));
  if (receipts.length > 0)
    await removeAll(context, host, receipts, {
      forget: [],
      initramfs: context.config.initramfs,
    });
  for (const { target, conf, wasActive, restored, lines } of going) {
    if (isLate)
      session.complain(
        `dkms: removing module ${labelOf(target)} for kernel ${target.release} (${target.arch})`,
      );
    session.say(`Module ${labelOf(target)} for kernel ${target.release} (${target.arch}):`);
    if (wasActive) {
      session.say('Before uninstall, this module version was ACTIVE on this kernel.');
      for (const line of lines) session.say(line);
      for (const path of restored) session.say(`Restoring archived original module ${path}`);
    } else session.say('This module version was INACTIVE for this kernel.');
    await runScript(session, target, 'post_remove', conf.scripts);
    await dropOriginals(run, target);
    await after(target);
    if (isLate) session.say('');
    else session.say('Running depmod... done.');
  }
};

/** A module that goes, and what is to be said of it. */
interface Going {
  readonly target: Target;
  readonly conf: HostConf;
  readonly wasActive: boolean;
  readonly receipt: Receipt | null;
  readonly lines: readonly string[];
  readonly restored: readonly string[];
}

/** What is said of the files that go. */
const goingLines = async (
  { session: { places } }: DkmsRun,
  { release, modules }: Receipt,
): Promise<readonly string[]> => {
  const lines: string[] = [];
  for (const { path } of modules) {
    const place = join(places.kernels, release, path);
    lines.push(
      (await isThere(place))
        ? `Deleting ${place}`
        : `Module ${basename(path)} was not found within ${places.kernels}/${release}/`,
    );
  }
  return lines;
};

/** Where what is aside for a target came from. */
const originLines = async (
  { session: { places } }: DkmsRun,
  target: Target,
): Promise<readonly string[]> => {
  const home = originalsHome(places, target);
  const names = (await readdir(home).catch(() => [])).filter((name) => name.endsWith('.origin'));
  return Promise.all(
    names
      .sort()
      .map(async (name) => (await readFile(join(home, name), 'utf8')).split('\n')[0] ?? ''),
  );
};

const receiptOf = async (
  { session: { host, places } }: DkmsRun,
  target: Target,
): Promise<Receipt | null> => {
  const receipt = await readReceipt(host, target.release, target.module);
  return receipt?.dkmsTree === places.tree && receipt.version === target.version ? receipt : null;
};

/** Removes what is left of a target's `original_module` when nothing is installed for its kernel any more. */
const dropOriginals = async ({ session: { places } }: DkmsRun, target: Target): Promise<void> => {
  if (await isThere(activeLink(places, target))) return;
  const home = originalsHome(places, target);
  await rm(home, { recursive: true, force: true });
  for (const each of [dirname(home), dirname(dirname(home))]) await rmdir(each).catch(() => {});
};

/** Removes what was built for a kernel. */
export const dropBuilt = async (
  { session: { places } }: DkmsRun,
  target: Target,
): Promise<void> => {
  const home = builtHome(places, target);
  await dropWhole(home);
  await dropLeftovers(dirname(home));
  await rmdir(dirname(home)).catch(() => {});
};

/** `dkms uninstall` for one kernel. */
export const maybeUninstall = async (run: DkmsRun, target: Target): Promise<void> => {
  if (await isInstalled(run.session.places, target)) return uninstallModules(run, [target]);
  run.session.say(
    `Module ${labelOf(target)} is not installed for kernel ${target.release} (${target.arch}). Skipping...`,
  );
};

/** `dkms unbuild` for one kernel: what was built goes, uninstalled before. */
export const unbuild = async (run: DkmsRun, target: Target): Promise<void> => {
  const { session } = run;
  await maybeUninstall(run, target);
  if (await isBuilt(session.places, target)) await dropBuilt(run, target);
  else
    session.say(
      `Module ${labelOf(target)} is not built for kernel ${target.release} (${target.arch}). Skipping...`,
    );
};

/** `dkms remove`: takes a version off kernels, and out of the tree where it is built for none any more. */
export const removeModule = async (
  run: DkmsRun,
  added: Added,
  targets: readonly Target[],
): Promise<void> => {
  const { session } = run;
  const home = homeOf(session.places, added);
  for (const target of targets) {
    await unbuild(run, target);
    session.say('');
  }
  const entries = await readdir(home, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    if (!entry.isDirectory()) continue;
    await dropLeftovers(join(home, entry.name));
    await rmdir(join(home, entry.name)).catch(() => {});
  }
  const left = (await readdir(home, { withFileTypes: true }).catch(() => [])).filter(
    (entry) => entry.isDirectory() && isRelease(entry.name),
  );
  if (left.length === 0) {
    session.say(`Deleting module ${labelOf(added)} completely from the DKMS tree.`);
    await dropWhole(home);
  }
  await dropLeftovers(dirname(home));
  if ((await versionsIn(session.places, { ...ANY, module: added.module })).length === 0)
    await rmdir(dirname(home)).catch(() => {});
};
