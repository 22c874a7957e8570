import { machine } from 'node:os';
import { KilnError } from '../../services/core/errors.ts';
import type { Context } from '../command.ts';
import type { Host } from '../host/host.ts';
import { explainInputs, isStaleness } from '../../services/core/build/explain.ts';
import { installAll } from '../install/install.ts';
import { readReceipt } from '../installed/receipts.ts';
import type { Granted } from '../install/wish.ts';
import { leaveKernel, newestVersions, NO_AUTOINSTALL } from './autoinstall.ts';
import { buildModule } from './build.ts';
import { isThere } from './look.ts';
import { readCall } from './call.ts';
import { DkmsEnd } from './end.ts';
import { readyToInstall, tellInstalled, termsFor, type ReadyModule } from './install.ts';
import { createRun, type DkmsRun } from './run.ts';
import { forgetGranted, readAsks } from './package-asks.ts';
import { openSession, USUAL } from './session.ts';
import { requestFor } from './source.ts';
import { confOf, isActive, isBuilt, labelOf, type Added, type Target } from './tree.ts';

/** Builds that are asked for at once. */
const AT_ONCE = 8;

/**
 * Brings kernels to what dkms's tree wants of them: the newest version of every source with AUTOINSTALL, or that a package asks for. Unlike
 * `dkms autoinstall` it does so in one transaction, with one depmod and one initramfs for each kernel, however many modules there are; what
 * is built against another source comes in the next one. A source that cannot be had keeps no other.
 */
export const bringUpDkms = async (
  context: Context,
  host: Host,
  releases: readonly string[],
): Promise<readonly Granted[]> => {
  if (!(await hasTree(host)) || (await isThere(NO_AUTOINSTALL))) return [];
  const run = await quietRun(context, host);
  const granted: Granted[] = [];
  const newest = await newestVersions(run);
  const asks = await readAsks(run, newest);
  let waiting = await lacking(run, newest, asks, releases);
  while (waiting.length > 0) {
    const isWaitedFor = (name: string, release: string): boolean =>
      waiting.some(({ target }) => target.module === name && target.release === release);
    const now = waiting.filter(
      ({ target, needs }) => !needs.some((name) => isWaitedFor(name, target.release)),
    );
    // A ring of dependencies: each of it is tried, and says what it lacks.
    const turn = now.length > 0 ? now : waiting;
    waiting = waiting.filter((each) => !turn.includes(each));
    granted.push(...(await installTurn(run, turn)));
  }
  await forgetGranted(run, asks, granted);
  return granted;
};

/** Whether dkms has anything here. Its tree is looked at on this machine alone: another root's settings are not evaluated. */
const hasTree = async ({ root }: Host): Promise<boolean> =>
  root === '/' && ((await isThere(USUAL.tree)) || (await isThere('/etc/dkms')));

/** Takes all that dkms's tree has of kernels that go. */
export const leaveKernels = async (
  context: Context,
  host: Host,
  releases: readonly string[],
): Promise<void> => {
  if (!(await hasTree(host))) return;
  const run = await quietRun(context, host);
  for (const release of releases) await leaveKernel(run, { release, arch: machine() }, true);
};

const quietRun = async (context: Context, host: Host): Promise<DkmsRun> => {
  try {
    const call = readCall(['autoinstall', '-q'], '/', () => {});
    return createRun(await openSession(context, host, call));
  } catch (error) {
    throw asProblem(error);
  }
};

interface Lacking {
  readonly target: Target;
  readonly needs: readonly string[];
  /** Whether what is installed was built of other headers, or by another toolchain, than it would be now. */
  readonly isStale: boolean;
}

/** What kernels lack of what the tree wants, what is stale among it. */
const lacking = async (
  run: DkmsRun,
  newest: readonly Added[],
  asks: readonly Target[],
  releases: readonly string[],
): Promise<readonly Lacking[]> => {
  const { places } = run.session;
  const found: Lacking[] = [];
  for (const added of newest) {
    const asked = asks.filter(({ module }) => module === added.module);
    for (const release of releases) {
      const target = { ...added, release, arch: machine() };
      const conf = await run.confs
        .read({ ...target, file: confOf(places, target) })
        .catch(() => null);
      if (conf === null || !(conf.isAutoinstalled || asked.some((ask) => ask.release === release)))
        continue;
      const isHere = await isActive(places, target);
      const isStale = isHere && (await wouldDiffer(run, target, conf.dependencies));
      if (!isHere || isStale) found.push({ target, needs: conf.dependencies, isStale });
    }
  }
  return found;
};

/** Whether an installed module would be built of something else now. Where the service cannot be asked, nothing is known of it. */
const wouldDiffer = async (
  run: DkmsRun,
  target: Target,
  dependencies: readonly string[],
): Promise<boolean> => {
  const receipt = await readReceipt(run.session.host, target.release, target.module);
  if (receipt?.dkmsTree == null || receipt.version !== target.version) return false;
  try {
    const { view } = await requestFor(run.session, target, dependencies);
    if (view === undefined || 'problem' in view) return false;
    return explainInputs(receipt.inputs, view.inputs).some(isStaleness);
  } catch (error) {
    if (error instanceof DkmsEnd || error instanceof KilnError) return false;
    throw error;
  }
};

/** Builds what is not built, and installs all of it in one transaction. */
const installTurn = async (run: DkmsRun, turn: readonly Lacking[]): Promise<readonly Granted[]> => {
  const { context, host, places } = run.session;
  const targets = turn.map(({ target }) => target);
  const failed: Granted[] = [];
  const ready: ReadyModule[] = [];
  const queue = [...turn];
  const work = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const { target, isStale } = next;
      // Each with a reader of confs of its own: they are at work beside each other.
      const own = createRun(run.session);
      try {
        context.progress.step(`building ${labelOf(target)} for ${target.release}`);
        if (isStale || !(await isBuilt(places, target))) await buildModule(own, target);
        ready.push(await readyToInstall(own, target, isStale));
      } catch (error) {
        failed.push({
          name: target.module,
          release: target.release,
          receipt: null,
          isCached: false,
          problem: asProblem(error),
        });
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  ready.sort((a, b) => targets.indexOf(a.target) - targets.indexOf(b.target));
  if (ready.length === 0) return failed;
  const granted = await installAll(
    context,
    host,
    ready.map(({ wish }) => wish),
    await termsFor(run),
  );
  for (const [index, { receipt }] of granted.entries()) {
    const each = ready[index];
    if (receipt !== null && each !== undefined) await tellInstalled(run, each, receipt);
  }
  return [...failed, ...granted];
};

/** The end of a dkms command as an error of ours. */
const asProblem = (error: unknown): KilnError => {
  if (error instanceof KilnError) return error;
  if (!(error instanceof DkmsEnd)) throw error;
  return new KilnError(error.code, error.lines.join(' '));
};
