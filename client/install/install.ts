import { KilnError } from '../../services/core/errors.ts';
import type { Context } from '../command.ts';
import { findAll, isCached, type Found } from './find.ts';
import type { Host } from '../host/host.ts';
import { withLock } from '../host/lock.ts';
import { planInstall, planLink, planRemove, planUnlink, type Plan } from './plan.ts';
import { listReceipts, type Receipt } from '../installed/receipts.ts';
import { loadWarning } from '../host/secure-boot.ts';
import { withUnneeded } from '../installed/unneeded.ts';
import type { Change } from '../transaction/change.ts';
import { changeHost, NotPreferred, recoverAloud } from './change-host.ts';
import { newerHere, versionIn } from '../installed/newest-here.ts';
import { certificateId } from '../installed/verify.ts';
import {
  noteFailures,
  readFailures,
  readWanted,
  wantedChange,
  type Wanted,
} from '../installed/wanted.ts';
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
  const found = await findAll(context, host, wishes, terms);
  return withLock(host, async () => {
    await recoverAloud(context, host);
    return grant(context, host, wishes, found, terms);
  });
};

/** Lays down what was found, in one transaction. A module that depmod does not prefer fails alone: the others are laid down without it. */
const grant = async (
  context: Context,
  host: Host,
  wishes: readonly Wish[],
  found: readonly Found[],
  terms: InstallTerms,
): Promise<readonly Granted[]> => {
  const { receipts: before } = await listReceipts(host);
  const standing = new Map(before.map((receipt) => [keyOf(receipt), receipt]));
  const changes: Change[] = [];
  const laid: Receipt[] = [];
  const granted: Granted[] = [];
  const wishOf = new Map<Receipt, number>();
  for (const [index, wish] of wishes.entries()) {
    const { name, release } = wish;
    try {
      const plans = await plansOf(host, found[index] as Found, wish, terms, [...standing.values()]);
      for (const plan of plans) {
        changes.push(...plan.changes);
        laid.push(plan.receipt);
        wishOf.set(plan.receipt, index);
        standing.set(keyOf(plan.receipt), plan.receipt);
      }
      const receipt = plans.at(-1)?.receipt ?? null;
      granted.push({
        name: receipt?.name ?? name ?? '',
        release: receipt?.release ?? release,
        receipt,
        isCached: isCached(found[index]),
        problem: null,
      });
    } catch (error) {
      if (!(error instanceof KilnError)) throw error;
      granted.push({
        name: name ?? 'the source',
        release,
        receipt: null,
        isCached: false,
        problem: error,
      });
    }
  }
  const dropped: Receipt[] = [];
  const links = before.filter((each) => !laid.some((one) => keyOf(one) === keyOf(each)));
  for (const origin of before.filter((each) => !isSame(each, standing.get(keyOf(each))))) {
    changes.push(...(await planUnlink(host, origin, links)));
    dropped.push(
      ...links.filter(
        ({ name, linkedFrom }) => name === origin.name && linkedFrom === origin.release,
      ),
    );
  }
  for (const release of new Set(laid.map((receipt) => receipt.release))) {
    const warning =
      terms.certificate === null ? null : await loadWarning(host, release, terms.certificate);
    if (warning !== null) context.progress.say(`warning: ${warning}`);
  }
  // A new name that was granted for no kernel is not noted as wanted: it may be mistyped.
  const hadBefore = await readWanted(host);
  const had = terms.wanted.filter((each) =>
    granted.some(({ name, receipt }) => name === each.name && receipt !== null),
  );
  const wanted = mergeWanted(hadBefore, had);
  if (laid.length > 0) {
    const title = laid.map((each) => `${each.name}/${each.version} for ${each.release}`);
    try {
      await changeHost(context, host, {
        title: `install ${title.join(', ')}`,
        changes: [...changes, wantedChange(wanted)],
        laid,
        taken: [],
        initramfs: terms.initramfs,
      });
    } catch (error) {
      const problem = error instanceof KilnError ? error.cause : null;
      const index = problem instanceof NotPreferred ? wishOf.get(problem.receipt) : undefined;
      if (!(problem instanceof NotPreferred) || index === undefined) throw error;
      return grant(context, host, wishes, found.with(index, { kind: 'problem', problem }), terms);
    }
  }
  await tellDropped(context, host, dropped);
  await noteFailures(
    host,
    granted.filter(({ name }) => wanted.some((each) => each.name === name)),
  );
  return granted;
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

/**
 * Removes sources from some kernels or all, in one transaction, and with them what they were built against and nobody else needs. Gives
 * the receipts of all that was removed. `forget`: names that are no longer wanted.
 */
export const removeAll = (
  context: Context,
  host: Host,
  meant: readonly Receipt[],
  terms: { readonly forget: readonly string[]; readonly initramfs: boolean },
): Promise<readonly Receipt[]> =>
  withLock(host, async () => {
    await recoverAloud(context, host);
    const { receipts } = await listReceipts(host);
    // Another kiln may have changed them since: the receipts as they are now are removed.
    const named = receipts.filter((each) => meant.some((one) => keyOf(one) === keyOf(each)));
    const left = (await readWanted(host)).filter(({ name }) => !terms.forget.includes(name));
    const going = withUnneeded(named, receipts, left);
    const changes: Change[] = [];
    for (const receipt of going) changes.push(...(await planRemove(host, receipt, receipts)));
    const titles = going.map(({ name, version, release }) => `${name}/${version} from ${release}`);
    await changeHost(context, host, {
      title: `remove ${[...titles, ...(going.length === 0 ? terms.forget : [])].join(', ')}`,
      changes: [...changes, wantedChange(left)],
      laid: [],
      taken: going,
      initramfs: terms.initramfs,
    });
    await noteFailures(
      host,
      [
        ...going,
        ...(await readFailures(host)).filter(({ name }) => terms.forget.includes(name)),
      ].map(({ name, release }) => ({ name, release, problem: null })),
    );
    return going;
  });

const plansOf = async (
  host: Host,
  found: Found,
  { release, mayGoDown }: Wish,
  terms: InstallTerms,
  receipts: readonly Receipt[],
): Promise<readonly Plan[]> => {
  if (found.kind === 'problem') throw found.problem;
  if (!mayGoDown) mustNotGoDown(found, receipts);
  if (found.kind === 'link') {
    const { origin, provenWith } = found;
    if (!receipts.some((each) => keyOf(each) === keyOf(origin) && isSame(origin, each)))
      throw new KilnError(
        'install-failed',
        `${origin.name} for ${origin.release} was replaced while this ran; try again`,
      );
    return [planLink(origin, release, provenWith, receipts)];
  }
  const plans: Plan[] = [];
  for (const build of found.builds) {
    const { receipt } = plans.at(-1) ?? { receipt: null };
    const standing = receipt === null ? receipts : [...receipts, receipt];
    plans.push(
      await planInstall(host, build, {
        server: terms.supply.name,
        signer: terms.certificate === null ? null : certificateId(terms.certificate),
        force: terms.force,
        keepDisplaced: terms.keepDisplaced,
        receipts: standing,
      }),
    );
  }
  return plans;
};

/** Throws `conflict` where a version is older than the one that the host has of the source. */
const mustNotGoDown = (
  found: Exclude<Found, { kind: 'problem' }>,
  receipts: readonly Receipt[],
): void => {
  const offers =
    found.kind === 'link'
      ? [found.origin]
      : found.builds.map(({ build: { source, inputs } }) => ({ ...source, inputs }));
  for (const { name, version, inputs } of offers) {
    const newer = newerHere(receipts, name, versionIn(version, inputs));
    if (newer === null) continue;
    throw new KilnError(
      'conflict',
      `${name}/${version} is older than ${name}/${newer.version}, which is here for ${newer.release}; it was not installed (--allow-downgrade does)`,
    );
  }
};

const keyOf = ({ release, name }: Pick<Receipt, 'release' | 'name'>): string =>
  `${release} ${name}`;

/** Whether two receipts of one source and kernel speak of the same files. */
const isSame = (one: Receipt, other: Receipt | undefined): boolean => {
  const files = ({ modules, linkedFrom }: Receipt): string =>
    JSON.stringify([linkedFrom, modules.map(({ path, module }) => [path, module])]);
  return other !== undefined && files(one) === files(other);
};

/** The wanted sources of both lists; where both name one, as `now` has it. */
const mergeWanted = (before: Wanted, now: Wanted): Wanted => [
  ...before.filter(({ name }) => !now.some((each) => each.name === name)),
  ...new Map(now.map((each) => [each.name, each])).values(),
];
