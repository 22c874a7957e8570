import { readdir, readFile, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { run as runProgram } from '../host/programs.ts';
import { release as runningRelease } from 'node:os';
import { suffixOf } from '../host/kernel-modules.ts';
import { bundleSupply } from '../install/bundle.ts';
import { installAll } from '../install/install.ts';
import type { InstallTerms, Wish } from '../install/wish.ts';
import type { Receipt } from '../installed/receipts.ts';
import { serviceSupply } from '../install/supply.ts';
import { readCertificate } from '../installed/verify.ts';
import { buildModule } from './build.ts';
import { BUNDLE_FILE } from './built.ts';
import { isOutdated } from './dependencies.ts';
import { isThere } from './look.ts';
import type { ConfModule, HostConf } from './conf.ts';
import { DkmsEnd } from './end.ts';
import { locateOn } from './place.ts';
import { planDkms, type Original } from './plan.ts';
import type { DkmsRun } from './run.ts';
import { mayInstall } from './sanity.ts';
import { runScript } from './scripts.ts';
import {
  ANY,
  activeLink,
  builtHome,
  confOf,
  isBuilt,
  isInstalled,
  labelOf,
  modulesBelow,
  moduleIn,
  originalsHome,
  statusRows,
  type Target,
} from './tree.ts';
import { dropBuilt, uninstallModules } from './uninstall.ts';

/** Installs a module for a kernel, built first where it was not. Says what dkms says. Throws `DkmsEnd` with dkms's statuses. */
export const installModule = async (run: DkmsRun, target: Target): Promise<void> => {
  const { session } = run;
  if (!(await isBuilt(session.places, target))) await buildModule(run, target);
  const ready = await readyToInstall(run, target);
  const [granted] = await installAll(
    session.context,
    session.host,
    [ready.wish],
    await termsFor(run),
  );
  if (granted?.receipt == null) throw granted?.problem ?? new DkmsEnd(6, ['Installation aborted.']);
  await tellInstalled(run, ready, granted.receipt);
  session.say('Running depmod... done.');
  if (session.loads && target.release === runningRelease()) await loadWhatFits(run);
  await followDependencies(run, target);
};

/** A module that is built, may be installed, and how. */
export interface ReadyModule {
  readonly target: Target;
  readonly conf: HostConf;
  readonly wish: Wish;
  readonly originals: readonly Original[];
}

/**
 * Looks whether a built module may be installed, and runs its PRE_INSTALL script. `mayReplace`: also over the same version. Throws
 * `DkmsEnd` where it may not.
 */
export const readyToInstall = async (
  run: DkmsRun,
  target: Target,
  mayReplace = false,
): Promise<ReadyModule> => {
  const { session } = run;
  const { places, call, host } = session;
  const asked = await forced(run, target);
  // What is there is our own then, and no reason to keep it.
  const how = { ...asked, forceVersion: asked.forceVersion || mayReplace };
  const kernel = join(places.kernels, target.release);
  if (!(await isThere(kernel)))
    throw new DkmsEnd(6, [
      `The directory ${kernel} doesn't exist.`,
      'You cannot install a module onto a non-existant kernel.',
    ]);
  const conf = await run.confs.read(
    { ...target, file: call.conf ?? confOf(places, target) },
    'strict',
  );
  await mustBeWhole(run, target, conf);
  if (!mayReplace && (await isInstalled(places, target)))
    throw new DkmsEnd(5, [
      `This module/version combo is already installed for kernel ${target.release} (${target.arch}).`,
    ]);
  const status = await runScript(session, target, 'pre_install', conf.scripts);
  if (status !== 0 && !how.force)
    throw new DkmsEnd(101, [
      'pre_install failed, aborting install.',
      'You may override by specifying --force.',
    ]);
  const modules: ConfModule[] = [];
  for (const module of conf.modules)
    if (await mayInstall(run, target, conf, module.name, how)) modules.push(module);
  if (conf.modules.length > 0 && modules.length === 0)
    throw new DkmsEnd(6, ['Installation aborted.'], 'Error!', 'in-tree');
  const locate = await locateOn(host);
  const originals = await originalsOf(run, target, modules, locate);
  const file = join(builtHome(places, target), BUNDLE_FILE);
  if (!(await isThere(file)))
    throw new DkmsEnd(6, [
      `${builtHome(places, target)} was not built by Kiln, which cannot prove what it is.`,
      `Build it anew: dkms build --force ${labelOf(target)} -k ${target.release}`,
    ]);
  return {
    target,
    conf,
    originals,
    wish: {
      name: target.module,
      release: target.release,
      request: {
        source: { name: target.module, version: target.version },
        kernel: { release: target.release },
      },
      mayGoDown: true,
      plan: planDkms(places, target, { modules, locate, originals }),
      supply: await bundleSupply(file),
    },
  };
};

/** The terms of dkms's installations. */
export const termsFor = async ({ session: { context } }: DkmsRun): Promise<InstallTerms> => ({
  supply: serviceSupply(context, context.config.server),
  certificate: await readCertificate(context.config.certificate).catch(() => null),
  allowUnsigned: context.config.allowUnsigned,
  // What the kernel has of the same name was looked at before, as dkms looks at it.
  force: true,
  forgetWithdrawals: false,
  keepDisplaced: true,
  weakUpdates: false,
  wanted: [],
  initramfs: context.config.initramfs,
});

/** Says what was laid down where, and runs the POST_INSTALL script. */
export const tellInstalled = async (
  { session }: DkmsRun,
  { target, conf, originals }: ReadyModule,
  receipt: Receipt,
): Promise<void> => {
  for (const { path } of originals)
    session.say(`Found pre-existing ${path}, archiving for uninstallation`);
  for (const { path } of receipt.modules)
    session.say(`Installing ${session.places.kernels}/${target.release}/${path}`);
  await runScript(session, target, 'post_install', conf.scripts);
};

/** Builds anew what was built against another version of its dependencies and wants to follow them (`BUILD_DEPENDS_REBUILD`). */
const followDependencies = async (run: DkmsRun, { release, arch }: Target): Promise<void> => {
  const { session } = run;
  const { places } = session;
  if (session.call.force) return;
  for (const row of await statusRows(places, { ...ANY, release, arch })) {
    if (row.state !== 'built' && row.state !== 'installed') continue;
    const conf = await run.confs.read({ ...row, file: confOf(places, row) });
    if (!conf.followsDependencies || !(await isOutdated(places, row, conf))) continue;
    for (const line of ['', `Rebuilding module ${labelOf(row)} due to updated dependencies`, ''])
      session.say(line);
    if (row.state === 'installed') await uninstallModules(run, [row]);
    await dropBuilt(run, row);
    await installModule(run, row);
  }
};

/** Whether an installation is forced: by the command, or by a list of modules that a distribution ships for it. */
const forced = async (
  { session }: DkmsRun,
  { module }: Target,
): Promise<{ force: boolean; forceVersion: boolean }> => {
  const home = '/usr/share/dkms/modules_to_force_install';
  const words: string[] = [];
  for (const name of await readdir(home).catch(() => []))
    words.push(...(await readFile(join(home, name), 'utf8')).split(/\s+/));
  const { force, forceVersion, isSafeUpgrade } = session.call;
  if (words.includes(module)) session.say(`Forcing installation of ${module}`);
  else if (words.includes(`${module}_version-override`))
    session.say(`Forcing version override of ${module}`);
  return {
    force: force || isSafeUpgrade || words.includes(module),
    forceVersion: forceVersion || words.includes(`${module}_version-override`),
  };
};

const mustBeWhole = async (
  { session: { places } }: DkmsRun,
  target: Target,
  { modules }: HostConf,
): Promise<void> => {
  const home = join(builtHome(places, target), 'module');
  for (const { name } of modules)
    if ((await moduleIn(home, name)) === null)
      throw new DkmsEnd(6, [`Missing module ${name} in ${home}`]);
};

/**
 * The modules that were there before and go aside: for each of ours the one in `extra`, in `updates` or in our own place, or else the only
 * one that the kernel has of its name. Where there are several, dkms leaves them.
 */
const originalsOf = async (
  { session }: DkmsRun,
  target: Target,
  modules: readonly ConfModule[],
  locate: (module: ConfModule) => string,
): Promise<readonly Original[]> => {
  const { places } = session;
  // Another version of the source is installed: what was there before that is aside already.
  if (await isThere(activeLink(places, target))) {
    for (const { name } of modules)
      if ((await moduleIn(originalsHome(places, target), name)) !== null)
        session.say('An original module was already stored during a previous install');
    return [];
  }
  const kernel = await realpath(join(places.kernels, target.release));
  const home = join(places.kernels, target.release);
  const originals: Original[] = [];
  for (const module of modules) {
    const found = await modulesBelow(kernel, module.name);
    const [only, ...others] = found;
    const suffix = only === undefined ? '' : suffixOf(only);
    const preferred = ['extra', 'updates', locate(module)].map((place) =>
      join(kernel, place, `${module.name}.ko${suffix}`),
    );
    const path =
      preferred.find((place) => found.includes(place)) ?? (others.length === 0 ? only : undefined);
    if (path !== undefined) originals.push({ path: join(home, path.slice(kernel.length)) });
  }
  return originals;
};

/** Loads the modules of devices that are there, and those that are to be loaded at boot. */
const loadWhatFits = async (run: DkmsRun): Promise<void> => {
  const end = await runProgram('sh', [
    '-c',
    'find /sys/devices -name modalias -print0 | xargs -0 cat | sort -u | xargs modprobe -a -b -q; [ ! -f /lib/systemd/system/systemd-modules-load.service ] || systemctl restart systemd-modules-load.service',
  ]);
  if (end.status !== 0 && end.words !== '') run.session.complain(`Warning: ${end.words}`);
};
