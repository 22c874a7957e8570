import type { Digest } from '../../services/core/digest.ts';
import { KilnError } from '../../services/core/errors.ts';
import { filesOf, type BuildView } from '../../services/core/protocol/build.ts';
import type { Withdrawal } from '../../services/core/policy/withdrawal.ts';
import { mustFitKernel, readOwnKernel } from '../installed/kernel-fit.ts';
import { whyWithdrawn } from '../installed/withdrawn.ts';
import type { Context } from '../command.ts';
import { fetchBuilds, type Fetched } from './fetch.ts';
import { modulesDirectory, type Host } from '../host/host.ts';
import { modulesMustBeWritable } from '../host/writable.ts';
import type { Receipt } from '../installed/receipts.ts';
import { asUnproven, findLink } from '../installed/weak-updates.ts';
import type { InstallTerms, Wish } from './wish.ts';

/** Builds that are asked for at once. */
const AT_ONCE = 8;

/** What was found for a wish: a build, a kernel to link from, or why there is neither. */
export type Found =
  | { readonly kind: 'builds'; readonly builds: readonly Fetched[] }
  | { readonly kind: 'link'; readonly origin: Receipt; readonly provenWith: Digest }
  | { readonly kind: 'problem'; readonly problem: KilnError };

/** A wish, and what was found for it. */
export interface FoundWish {
  readonly wish: Wish;
  readonly found: Found;
}

/** What was found for each wish, in their order. A failure is a result and keeps no other wish from being found. */
export const findAll = async (
  context: Context,
  host: Host,
  wishes: readonly Wish[],
  terms: InstallTerms,
): Promise<readonly FoundWish[]> => {
  const places = await Promise.all(
    wishes.map(async (wish) => ({ wish, problem: await placeProblem(host, wish.release) })),
  );
  // Where nothing can be laid down, nobody is asked for anything.
  const withdrawals = places.every(({ problem }) => problem !== null)
    ? []
    : await terms.supply.withdrawals(host, terms.forgetWithdrawals);
  return eachAtOnce(places, async ({ wish, problem }) => ({
    wish,
    found:
      problem === null
        ? await find(context, host, wish, terms, { wishes, withdrawals })
        : { kind: 'problem', problem },
  }));
};

const find = async (
  context: Context,
  host: Host,
  wish: Wish,
  terms: InstallTerms,
  {
    wishes,
    withdrawals,
  }: { readonly wishes: readonly Wish[]; readonly withdrawals: readonly Withdrawal[] },
): Promise<Found> => {
  try {
    const { name } = wish;
    // Modules that this run may replace prove nothing.
    const unsure = wishes.filter((each) => each.name === name).map(({ release }) => release);
    const link =
      terms.weakUpdates && name !== null
        ? await findLink(host, context.service, { ...wish, name }, unsure).catch(asUnproven)
        : null;
    if (link !== null && whyWithdrawn(withdrawals, link.origin) === null)
      return { kind: 'link', ...link };
    const builds = await fetchBuilds(wish.supply ?? terms.supply, wish.request, terms);
    const kernel = await readOwnKernel(host, wish.release);
    for (const { build, modules } of builds) {
      mustBeGiven(withdrawals, build);
      const { options } = (build.inputs['kernel'] ?? {}) as { readonly options?: unknown };
      const { name: source, version } = build.source;
      const bytes = modules.map((module) => module.bytes);
      mustFitKernel(kernel, { name: `${source}/${version}`, options, modules: bytes });
    }
    if (wish.plan === undefined) for (const each of builds) sayWhatIsLeft(context, each);
    return { kind: 'builds', builds };
  } catch (error) {
    if (error instanceof KilnError && error.code !== 'build-cancelled')
      return { kind: 'problem', problem: error };
    throw error;
  }
};

/** Why a kernel's modules have no place on a host, or `null`. */
const placeProblem = async (host: Host, release: string): Promise<KilnError | null> => {
  try {
    await modulesDirectory(host, release);
    await modulesMustBeWritable(host, release);
    return null;
  } catch (error) {
    if (error instanceof KilnError) return error;
    throw error;
  }
};

const mustBeGiven = (withdrawals: readonly Withdrawal[], build: BuildView): void => {
  const signer = build.signature?.kind === 'signed' ? build.signature.key : null;
  const why = build.withdrawn ?? whyWithdrawn(withdrawals, { ...build, signer });
  if (why !== null) throw new KilnError('withdrawn', `${why}; nothing was installed`);
};

/** Scripts that a source wants run where it is installed: dkms runs them, for sources that are the host's own. */
const SCRIPTS = ['POST_ADD', 'PRE_INSTALL', 'POST_INSTALL', 'POST_REMOVE'];

/** Prints what a source's `dkms.conf` asks for at installation and Kiln leaves to the person. */
const sayWhatIsLeft = (context: Context, { build, modules, isSigned }: Fetched): void => {
  const brought = Object.keys(filesOf(build));
  if (!isSigned && brought.length > 0)
    context.progress.say(
      `${build.source.name} brings files for hosts (${brought.join(', ')}), which are left out: the build is not signed, so nobody vouches for them`,
    );
  const passedOver = build.recipe?.['passedOver'];
  if (!Array.isArray(passedOver)) return;
  const { name } = build.source;
  if (passedOver.includes('MODPROBE_ON_INSTALL') && !context.flag('load'))
    context.progress.say(
      `${name} asks to be loaded when it is installed (MODPROBE_ON_INSTALL): kiln install --load does that, or modprobe -a ${modules.map(({ modname }) => modname).join(' ')}`,
    );
  const scripts = SCRIPTS.filter((each) => passedOver.includes(each));
  if (scripts.length > 0)
    context.progress.say(
      `${name} has scripts for hosts (${scripts.join(', ')}), which kiln install never runs; read them, or have its package installed with kiln-dkms, whose dkms runs them`,
    );
};

/** Whether a wish was found without compiling anything. */
export const isCached = (found: Found): boolean =>
  found.kind === 'link' || (found.kind === 'builds' && found.builds.every((each) => each.isCached));

/** Runs `work` for each, a few at once; the results in the order of the items. */
const eachAtOnce = async <T, R>(
  items: readonly T[],
  work: (item: T) => Promise<R>,
): Promise<readonly R[]> => {
  const results: R[] = [];
  const queue = [...items.entries()];
  const worker = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift())
      results[next[0]] = await work(next[1]);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return results;
};
