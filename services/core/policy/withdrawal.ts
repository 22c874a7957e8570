import { buildIdOf, type FingerprintInputs } from '../build/fingerprint.ts';
import type { Digest } from '../digest.ts';

/** The kinds of things that an admin can withdraw: hosts are no longer given such a thing, nor anything made of it. */
export const WITHDRAWABLE = ['source', 'kernel', 'toolchain', 'build', 'signer'] as const;
export type Withdrawable = (typeof WITHDRAWABLE)[number];

/** A withdrawal. `id` is a digest, a build's id or a signer's key; `name` is what people call it. */
export interface Withdrawal {
  readonly kind: Withdrawable;
  readonly id: string;
  readonly name: string;
  readonly reason: string;
}

/** The things for which a build counts as withdrawn: ids by kind. */
export type MadeOf = readonly (readonly [kind: Withdrawable, id: string])[];

/** The things that a build was made of and signed with. */
export const madeOf = (
  { source, kernel, toolchain, dependencies }: MadeOfInputs,
  fingerprint: Digest,
  signer: string | null,
): MadeOf => [
  ['source', source.digest],
  ['kernel', kernel.tree],
  ['toolchain', toolchain],
  ['build', buildIdOf(fingerprint)],
  ...dependencies.map((each) => ['build', buildIdOf(each.fingerprint)] as const),
  ...(signer === null ? [] : [['signer', signer] as const]),
];

type MadeOfInputs = {
  readonly source: Pick<FingerprintInputs['source'], 'digest'>;
  readonly kernel: Pick<FingerprintInputs['kernel'], 'tree'>;
  readonly toolchain: Digest;
  readonly dependencies: readonly { readonly fingerprint: Digest }[];
};

/** The first of these that was withdrawn, or `null`. */
export const findWithdrawn = <T extends Withdrawal>(
  withdrawals: readonly T[],
  parts: MadeOf,
): T | null =>
  withdrawals.find((each) => parts.some(([kind, id]) => each.kind === kind && each.id === id)) ??
  null;

/** A withdrawal in words. */
export const sayWithdrawn = ({ kind, name, reason }: Withdrawal): string =>
  `the ${kind} ${name} was withdrawn: ${reason}`;
