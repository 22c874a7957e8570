import { KilnError } from '../../services/core/errors.ts';
import type { Host } from '../host/host.ts';
import { newerHere, versionIn } from '../installed/newest-here.ts';
import { isSameSet, receiptKey, type Receipt } from '../installed/receipts.ts';
import { certificateId } from '../installed/verify.ts';
import type { Found, FoundWish } from './find.ts';
import { planInstall, planLink, type Plan } from './plan.ts';
import type { InstallTerms, Wish } from './wish.ts';

/** What becomes of a wish on a host: plans to carry out (what a build was built against comes first), or the problem that keeps it from being granted. */
export type Decision =
  | { readonly kind: 'planned'; readonly asked: FoundWish; readonly plans: readonly Plan[] }
  | { readonly kind: 'refused'; readonly asked: FoundWish; readonly problem: KilnError };

/** Decides on wishes in their order, each as if the ones before it were carried out. Changes nothing. `receipts`: what the host has now. */
export const decideAll = async (
  host: Host,
  asked: readonly FoundWish[],
  terms: InstallTerms,
  receipts: readonly Receipt[],
): Promise<readonly Decision[]> => {
  const standing = new Map(receipts.map((receipt) => [receiptKey(receipt), receipt]));
  const decisions: Decision[] = [];
  for (const each of asked) {
    const decision = await decide(host, each, terms, [...standing.values()]);
    decisions.push(decision);
    for (const { receipt } of plansIn(decision)) standing.set(receiptKey(receipt), receipt);
  }
  return decisions;
};

/** The plans of a decision; none where it refuses. */
export const plansIn = (decision: Decision): readonly Plan[] =>
  decision.kind === 'planned' ? decision.plans : [];

/** The decision on one wish. A `KilnError` while it is planned refuses this wish alone. */
const decide = async (
  host: Host,
  asked: FoundWish,
  terms: InstallTerms,
  receipts: readonly Receipt[],
): Promise<Decision> => {
  const { wish, found } = asked;
  if (found.kind === 'problem') return { kind: 'refused', asked, problem: found.problem };
  const older = wish.mayGoDown ? null : whyOlder(found, receipts);
  if (older !== null) return { kind: 'refused', asked, problem: older };
  try {
    return { kind: 'planned', asked, plans: await plansFor(host, wish, found, terms, receipts) };
  } catch (problem) {
    if (problem instanceof KilnError) return { kind: 'refused', asked, problem };
    throw problem;
  }
};

type Offer = Exclude<Found, { readonly kind: 'problem' }>;

/** Why an offer is refused as older than what the host has of the source (`conflict`), or `null`. */
const whyOlder = (offer: Offer, receipts: readonly Receipt[]): KilnError | null => {
  const offered =
    offer.kind === 'link'
      ? [offer.origin]
      : offer.builds.map(({ build: { source, inputs } }) => ({ ...source, inputs }));
  for (const { name, version, inputs } of offered) {
    const newer = newerHere(receipts, name, versionIn(version, inputs));
    if (newer === null) continue;
    return new KilnError(
      'conflict',
      `${name}/${version} is older than ${name}/${newer.version}, which is here for ${newer.release}; it was not installed (--allow-downgrade does)`,
    );
  }
  return null;
};

const plansFor = async (
  host: Host,
  { release, plan: planner = planInstall }: Wish,
  offer: Offer,
  terms: InstallTerms,
  receipts: readonly Receipt[],
): Promise<readonly Plan[]> => {
  if (offer.kind === 'link') {
    const { origin, provenWith } = offer;
    if (
      !receipts.some((each) => receiptKey(each) === receiptKey(origin) && isSameSet(each, origin))
    )
      throw new KilnError(
        'install-failed',
        `${origin.name} for ${origin.release} was replaced while this ran; try again`,
      );
    return [planLink(origin, release, provenWith, receipts)];
  }
  const plans: Plan[] = [];
  for (const build of offer.builds) {
    const plan = await planner(host, build, {
      server: terms.supply.name,
      signer: terms.certificate === null ? null : certificateId(terms.certificate),
      force: terms.force,
      keepDisplaced: terms.keepDisplaced,
      receipts: [...receipts, ...plans.map(({ receipt }) => receipt)],
    });
    if (plan !== null) plans.push(plan);
  }
  return plans;
};
