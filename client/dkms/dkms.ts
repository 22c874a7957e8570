import { access, constants, mkdir } from 'node:fs/promises';
import { machine, release as runningRelease } from 'node:os';
import { join } from 'node:path';
import { writeSynced } from '../transaction/whole-file.ts';
import type { Context } from '../command.ts';
import type { Host } from '../host/host.ts';
import { addModule, mustBeNamed, namedModule } from './add.ts';
import { autoinstall, leaveKernel } from './autoinstall.ts';
import { buildModule, DKMS_VERSION } from './build.ts';
import { readCall, VERBS, type DkmsCall, type Verb } from './call.ts';
import { DkmsEnd, EXIT } from './end.ts';
import { installModule } from './install.ts';
import { askForAll } from './package-asks.ts';
import { packageModules } from './packages.ts';
import { matchKernel } from './match.ts';
import { createRun, type DkmsRun } from './run.ts';
import { releaseToDkms } from './release.ts';
import { runPostTransaction } from './scripts.ts';
import { openSession, tellEnd } from './session.ts';
import { showStatus } from './status.ts';
import { statusOf } from './status-of.ts';
import { makeSourcePackage } from './source-package.ts';
import { makeTarball } from './tarball.ts';
import {
  builtRows,
  isBuilt,
  isInstalled,
  labelOf,
  mustBeAdded,
  mustNotBeBroken,
  type Added,
  type Target,
} from './tree.ts';
import { dropBuilt, maybeUninstall, removeModule, unbuild, uninstallModules } from './uninstall.ts';

/** What `dkms --help` says. */
const HELP = `Usage: dkms [action] [options]
  [action]  = { ${VERBS.slice(0, 7).join(' | ')} |
               ${VERBS.slice(7, 14).join(' | ')} |
               ${VERBS.slice(14).join(' | ')} }
  [options] = [-m module] [-v module-version] [-k kernel-version] [-a arch]
              [-c dkms.conf-location] [-q] [--force] [--force-version-override] [--all]
              [--templatekernel=kernel] [--directive='cli-directive=cli-value']
              [--config=kernel-options-location] [--archive=tarball-location]
              [--kernelsourcedir=source-location] [--rpm_safe_upgrade]
              [--dkmstree path] [--sourcetree path] [--installtree path]
              [--source-only] [--verbose] [--no-depmod] [--modprobe-on-install]
              [-j number] [--version] [--help]

This is Kiln's dkms: modules are built, and signed, by the service that /etc/kiln/config names, and verified here.
No compiler and no headers are needed. kiln(8) says more.`;

/** Runs dkms's command line, and gives its exit status. */
export const runDkms = async (
  context: Context,
  host: Host,
  args: readonly string[],
): Promise<number> => {
  const bare = { complain: (line: string) => void process.stderr.write(`${line}\n`) };
  if (args[0] === 'release') return statusOf({ session: bare }, () => releaseToDkms(context, host));
  if (args[0] === 'ask')
    return statusOf({ session: bare }, () => ask(context, host, args.slice(1)));
  let call: DkmsCall;
  try {
    call = readCall(args, process.cwd(), bare.complain);
  } catch (error) {
    if (!(error instanceof DkmsEnd)) throw error;
    tellEnd(bare, error);
    if (error.lines[0]?.startsWith('Unknown option') === true) process.stdout.write(`${HELP}\n`);
    return error.status;
  }
  if (call.wants !== 'work') {
    process.stdout.write(`${call.wants === 'help' ? HELP : DKMS_VERSION}\n`);
    return 0;
  }
  return statusOf({ session: bare }, async () => {
    const session = await openSession(context, host, call);
    const run = createRun(session);
    const status = await statusOf(run, () => perform(run, call.verb));
    if (status !== 0) throw new DkmsEnd(status, []);
  });
};

/** `kiln dkms ask -m NAME -v VERSION`, of `common.postinst`: the source is to be installed for the kernels that there are. */
const ask = async (context: Context, host: Host, args: readonly string[]): Promise<void> => {
  const session = await openSession(
    context,
    host,
    readCall(['add', ...args], '/', () => {}),
  );
  const { module, version } = session.call;
  await mustBeAdded(session.places, { module, version });
  await askForAll(session, { module, version });
};

const perform = async (run: DkmsRun, verb: Verb | null): Promise<void> => {
  const { session } = run;
  const { call, places } = session;
  const added: Added = { module: call.module, version: call.version };
  switch (verb) {
    case 'status':
      return showStatus(run);
    case 'add': {
      refuseAll(call, verb);
      await mustWriteTree(run);
      return addModule(run, await namedModule(run, verb));
    }
    case 'build':
    case 'install': {
      refuseAll(call, verb);
      await mustNotBeBroken(places, added);
      if (verb === 'install') mustBeRoot();
      else await mustWriteTree(run);
      const named = await namedModule(run, verb);
      await eachTarget(run, targetsOf(call, named), verb === 'build' ? maybeBuild : maybeInstall);
      if (verb === 'install') await afterwards(run);
      return undefined;
    }
    case 'remove':
    case 'unbuild':
    case 'uninstall': {
      mustBeNamed(verb, added);
      await mustBeAdded(places, added);
      if (verb === 'uninstall') mustBeRoot();
      else await mustWriteTree(run);
      const targets = call.all ? await builtRows(places, added) : targetsOf(call, added);
      if (verb === 'remove') await removeModule(run, added, targets);
      else await eachTarget(run, targets, verb === 'unbuild' ? unbuild : maybeUninstall, '');
      return afterwards(run);
    }
    case 'autoinstall':
    case 'kernel_postinst': {
      const kernel = oneKernel(call, verb);
      mustBeRoot();
      await autoinstall(run, kernel);
      return afterwards(run);
    }
    case 'kernel_prerm':
    case 'kernel_preinst': {
      const kernel = oneKernel(call, verb);
      mustBeRoot();
      return leaveKernel(run, kernel, verb === 'kernel_prerm');
    }
    case 'match':
      mustBeRoot();
      return matchKernel(run, oneKernel(call, verb));
    case 'mktarball':
      mustBeNamed(verb, added);
      await mustBeAdded(places, added);
      return makeTarball(
        run,
        added,
        call.all ? await builtRows(places, added) : targetsOf(call, added),
      );
    case 'mkdeb':
    case 'mkbmdeb':
    case 'mkrpm':
    case 'mkkmp': {
      mustBeNamed(verb, added);
      await mustBeAdded(places, added);
      await mustWriteTree(run);
      const targets = call.all ? await builtRows(places, added) : targetsOf(call, added);
      return eachTarget(run, targets, (of, target) => packageModules(of, verb, target));
    }
    case 'mkdsc':
      mustBeNamed(verb, added);
      await mustBeAdded(places, added);
      await mustWriteTree(run);
      return makeSourcePackage(run, added);
    case 'ldtarball':
      return addModule(run, await namedModule(run, 'add'));
    case 'generate_mok':
      session.say(
        `Public certificate (MOK): ${session.context.config.certificate ?? 'none is pinned; kiln setup pins one'}`,
      );
      session.say(
        'No key is made here: the service holds it. kiln enroll has the firmware trust the certificate.',
      );
      return undefined;
    case null:
      session.complain('');
      session.complain(`Error! Unknown action specified: "${call.module}"`);
      session.say(HELP);
      return undefined;
  }
};

const refuseAll = ({ all }: DkmsCall, verb: string): void => {
  if (all) throw new DkmsEnd(5, [`The action ${verb} does not support the --all parameter.`]);
};

const mustBeRoot = (): void => {
  if (process.geteuid?.() !== 0)
    throw new DkmsEnd(EXIT.usage, ['You must be root to use this command.']);
};

const mustWriteTree = async ({ session: { places } }: DkmsRun): Promise<void> => {
  if (process.geteuid?.() === 0) await mkdir(places.tree, { recursive: true, mode: 0o755 });
  await access(places.tree, constants.W_OK).catch(() => {
    throw new DkmsEnd(EXIT.usage, [`No write access to DKMS tree at ${places.tree}`]);
  });
};

/** The kernels of a command: those named, or the running one. */
const targetsOf = ({ kernels, arches }: DkmsCall, added: Added): readonly Target[] =>
  (kernels.length === 0 ? [runningRelease()] : kernels).map((release, index) => ({
    ...added,
    release,
    arch: arches[index] ?? arches[0] ?? machine(),
  }));

const oneKernel = (call: DkmsCall, verb: string): Pick<Target, 'release' | 'arch'> => {
  const isKernels = verb.startsWith('kernel_');
  refuseAll(call, verb);
  if (call.kernels.length > 1 || (isKernels && call.kernels.length === 0))
    throw new DkmsEnd(4, [
      isKernels
        ? `The action ${verb} requires exactly one kernel version parameter on the command line.`
        : `The action ${verb} does not support multiple kernel version parameters on the command line.`,
    ]);
  const [target] = targetsOf(call, { module: '', version: '' });
  return { release: target?.release ?? '', arch: target?.arch ?? '' };
};

/** Works on one kernel after the other; as with dkms the last one's end counts. `between`: a line between two of them. */
const eachTarget = async (
  run: DkmsRun,
  targets: readonly Target[],
  work: (run: DkmsRun, target: Target) => Promise<void>,
  between?: string,
): Promise<void> => {
  let status = 0;
  for (const [index, target] of targets.entries()) {
    if (index > 0 && between !== undefined) run.session.say(between);
    status = await statusOf(run, () => work(run, target));
  }
  if (status !== 0) throw new DkmsEnd(status, []);
};

const OVERRIDE = 'You may override by specifying --force.';

const maybeBuild = async (run: DkmsRun, target: Target): Promise<void> => {
  const { session } = run;
  if (await isBuilt(session.places, target)) {
    if (!session.call.force) {
      session.say(
        `Module ${labelOf(target)} already built for kernel ${target.release} (${target.arch}), skip. ${OVERRIDE}`,
      );
      return;
    }
    await dropBuilt(run, target);
  }
  await buildModule(run, target);
};

const maybeInstall = async (run: DkmsRun, target: Target): Promise<void> => {
  const { session } = run;
  if (await isInstalled(session.places, target)) {
    if (!session.call.force) {
      session.say(
        `Module ${labelOf(target)} already installed on kernel ${target.release} (${target.arch}), skip. ${OVERRIDE}`,
      );
      return;
    }
    await uninstallModules(run, [target]);
    session.say('');
  }
  await installModule(run, target);
};

const afterwards = (run: DkmsRun): Promise<void> =>
  runPostTransaction(run.session, async (text) => {
    await writeSynced(join(run.session.places.tree, 'post_transaction.log'), Buffer.from(text));
  });
