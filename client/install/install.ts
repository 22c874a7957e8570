import type { Context } from '../command.ts';
import type { Host } from '../host/host.ts';
import { withLock } from '../host/lock.ts';
import { loadWarning } from '../host/secure-boot.ts';
import { isSameSet, listReceipts, receiptKey, type Receipt } from '../installed/receipts.ts';
import { mergeWanted, noteFailures, readWanted, wantedChange } from '../installed/wanted.ts';
import { changeHost, recoverAloud, type PassedOver } from './change-host.ts';
import { decideAll, plansIn, type Decision } from './decide.ts';
import { findAll, isCached, type FoundWish } from './find.ts';
import { settingsChanges } from './host-files.ts';
import { linksTo, planUnlink } from './plan-remove.ts';
import type { Granted, InstallTerms, Wish } from './wish.ts';

/**
 * Grants as many wishes as possible in one transaction. Everything is fetched and verified first; a wish that fails keeps no other from
 * being granted. Throws `install-failed` where the host could not be changed: then it is as it was.
 */
export const installAll = async (
  context: Context,
  host: Host,
  wishes: readonly Wish[],
  terms: InstallTerms,
): Promise<readonly Granted[]> => {
  let asked = await findAll(context, host, wishes, terms);
  return withLock(host, async () => {
    await recoverAloud(context, host);
    // Each turn refuses one wish more, so there are at most as many as wishes.
    for (;;) {
      const { receipts: before } = await listReceipts(host);
      const decisions = await decideAll(host, asked, terms, before);
      const passedOver = await carryOut(context, host, decisions, terms, before);
      if (passedOver === null) return report(host, decisions);
      asked = refuse(decisions, passedOver);
    }
  });
};

/** Carries all plans out in one transaction. Where depmod passes over a module of theirs, gives which, and the host is as it was. */
const carryOut = async (
  context: Context,
  host: Host,
  decisions: readonly Decision[],
  terms: InstallTerms,
  before: readonly Receipt[],
): Promise<PassedOver | null> => {
  const plans = decisions.flatMap(plansIn);
  if (plans.length === 0) return null;
  const laid = plans.map(({ receipt }) => receipt);
  const dropped = linksToReplaced(before, laid);
  await warnOfLoading(context, host, laid, terms);
  const title = laid.map((each) => `${each.name}/${each.version} for ${each.release}`);
  const passedOver = await changeHost(context, host, {
    title: `install ${title.join(', ')}`,
    changes: [
      ...plans.flatMap(({ changes }) => changes),
      ...(await planUnlink(host, dropped)),
      ...settingsChanges(before, standingAfter(before, laid, dropped)),
      wantedChange(mergeWanted(await readWanted(host), newlyWanted(decisions, terms))),
    ],
    laid,
    taken: [],
    initramfs: terms.initramfs,
  });
  if (passedOver === null) await tellDropped(context, host, dropped);
  return passedOver;
};

/** The receipts that stand when some were laid down and others dropped. */
const standingAfter = (
  before: readonly Receipt[],
  laid: readonly Receipt[],
  dropped: readonly Receipt[],
): readonly Receipt[] => {
  const now = new Map(before.map((receipt) => [receiptKey(receipt), receipt]));
  for (const receipt of dropped) now.delete(receiptKey(receipt));
  for (const receipt of laid) now.set(receiptKey(receipt), receipt);
  return [...now.values()];
};

/** The wishes anew, where the one whose module depmod passes over is refused. */
const refuse = (
  decisions: readonly Decision[],
  { receipt, problem }: PassedOver,
): readonly FoundWish[] =>
  decisions.map((decision) =>
    plansIn(decision).some((plan) => plan.receipt === receipt)
      ? { wish: decision.asked.wish, found: { kind: 'problem', problem } }
      : decision.asked,
  );

/** How the wishes ended, with the failures of wanted sources noted on the host. */
const report = async (host: Host, decisions: readonly Decision[]): Promise<readonly Granted[]> => {
  const granted = decisions.map(asGranted);
  const wanted = await readWanted(host);
  await noteFailures(
    host,
    granted.filter(({ name }) => wanted.some((each) => each.name === name)),
  );
  return granted;
};

const asGranted = (decision: Decision): Granted => {
  const { wish, found } = decision.asked;
  const receipt = plansIn(decision).at(-1)?.receipt ?? null;
  return {
    name: receipt?.name ?? wish.name ?? 'the source',
    release: wish.release,
    receipt,
    isCached: receipt !== null && isCached(found),
    problem: decision.kind === 'refused' ? decision.problem : null,
  };
};

/** What is wanted from now on: the named sources that were granted for a kernel at least. Another name may be mistyped. */
const newlyWanted = (
  decisions: readonly Decision[],
  { wanted }: InstallTerms,
): InstallTerms['wanted'] => {
  const names = decisions.flatMap((decision) => plansIn(decision).at(-1)?.receipt.name ?? []);
  return wanted.filter(({ name }) => names.includes(name));
};

/** The links on other kernels to module sets that are replaced: what was proven of the old one is not of the new one. */
const linksToReplaced = (
  before: readonly Receipt[],
  laid: readonly Receipt[],
): readonly Receipt[] => {
  const now = new Map(laid.map((receipt) => [receiptKey(receipt), receipt]));
  const staying = before.filter((each) => !now.has(receiptKey(each)));
  return before.flatMap((each) => {
    const next = now.get(receiptKey(each));
    return next === undefined || isSameSet(next, each) ? [] : linksTo(each, staying);
  });
};

/** Prints, for each kernel, why it would refuse the modules that are about to be installed (Secure Boot). */
const warnOfLoading = async (
  context: Context,
  host: Host,
  laid: readonly Receipt[],
  { certificate }: InstallTerms,
): Promise<void> => {
  if (certificate === null) return;
  for (const release of new Set(laid.map((receipt) => receipt.release))) {
    const warning = await loadWarning(host, release, certificate);
    if (warning !== null) context.progress.say(`warning: ${warning}`);
  }
};

/** Prints which kernels have lost their links, except those that `weak-modules` has linked anew. */
const tellDropped = async (
  context: Context,
  host: Host,
  dropped: readonly Receipt[],
): Promise<void> => {
  if (dropped.length === 0) return;
  const { receipts } = await listReceipts(host);
  for (const { name, release } of dropped)
    if (!receipts.some((each) => each.name === name && each.release === release))
      context.progress.say(
        `${name} for ${release} was linked to what is replaced now; kiln autoinstall -k ${release} gets it again`,
      );
};
