import { mkdir, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import type { Digest } from '../../services/core/digest.ts';
import { WithdrawalView } from '../../services/core/protocol/withdrawal.ts';
import {
  findWithdrawn,
  madeOf,
  sayWithdrawn,
  type Withdrawal,
} from '../../services/core/policy/withdrawal.ts';
import { placeToChange, placeToRead, type Host } from '../host/host.ts';
import { forEverybody } from '../host/umask.ts';
import { writeWhole } from '../transaction/whole-file.ts';
import type { Service } from '../wire/service.ts';
import type { Receipt } from './receipts.ts';

/** The file with all withdrawals that this host has heard of. */
const KNOWN = 'var/lib/kiln/withdrawn.json';
/** The most withdrawals that a host keeps. */
const MOST = 10_000;

/** A withdrawal as a host knows it. */
const KnownWithdrawal = WithdrawalView.extend({
  /** Whether the service no longer lists it. The list is not signed, so the host keeps to the withdrawal until a person says otherwise. */
  isUnlisted: z.boolean().optional(),
});
type KnownWithdrawal = z.infer<typeof KnownWithdrawal>;
const Known = z.array(KnownWithdrawal).max(MOST);

/** The withdrawals that this host has heard of; none where the file cannot be read. The service is not asked. */
export const knownWithdrawals = async (host: Host): Promise<readonly KnownWithdrawal[]> => {
  try {
    const text = await readFile(await placeToRead(host, KNOWN), 'utf8');
    return Known.parse(JSON.parse(text));
  } catch {
    return [];
  }
};

/**
 * The service's withdrawals and those that this host has heard of before, which are kept where this user may write them. `forget`: only
 * the service's, as a person has allowed. Throws as the service does.
 */
export const askWithdrawals = async (
  host: Host,
  service: Pick<Service, 'withdrawals'>,
  forget = false,
): Promise<readonly KnownWithdrawal[]> => {
  const listed = await service.withdrawals();
  const before = forget ? [] : await knownWithdrawals(host);
  return remember(host, [...before.map((each) => ({ ...each, isUnlisted: true })), ...listed]);
};

/** As `askWithdrawals`, with those in a bundle: it may be older than what this host has heard of, so it says nothing of that. */
export const addWithdrawals = async (
  host: Host,
  bundled: readonly KnownWithdrawal[],
  forget = false,
): Promise<readonly KnownWithdrawal[]> =>
  remember(host, [...bundled, ...(forget ? [] : await knownWithdrawals(host))]);

/** Keeps withdrawals, where this user may; gives them. Of two for one thing the later counts. */
const remember = async (
  host: Host,
  heard: readonly KnownWithdrawal[],
): Promise<readonly KnownWithdrawal[]> => {
  const known = [...new Map(heard.map((each) => [`${each.kind} ${each.id}`, each])).values()];
  if (JSON.stringify(known) === JSON.stringify(await knownWithdrawals(host))) return known;
  try {
    const place = await placeToChange(host, KNOWN);
    await forEverybody(() => mkdir(dirname(place), { recursive: true }));
    await writeWhole(place, Buffer.from(`${JSON.stringify(known.slice(0, MOST), null, 2)}\n`));
  } catch {
    // Users other than root cannot keep the list.
  }
  return known;
};

const Made = z.object({
  source: z.object({ digest: z.custom<Digest>() }),
  kernel: z.object({ tree: z.custom<Digest>() }),
  toolchain: z.custom<Digest>(),
  dependencies: z.array(z.object({ fingerprint: z.custom<Digest>() })),
});

/** Why a build is withdrawn, in words, or `null` if it is not. */
export const whyWithdrawn = (
  withdrawals: readonly (Withdrawal & { readonly isUnlisted?: boolean | undefined })[],
  { inputs, fingerprint, signer }: Pick<Receipt, 'inputs' | 'fingerprint' | 'signer'>,
): string | null => {
  const made = Made.safeParse(inputs).data;
  const found =
    made === undefined ? null : findWithdrawn(withdrawals, madeOf(made, fingerprint, signer));
  if (found === null) return null;
  return found.isUnlisted === true
    ? `${sayWithdrawn(found)} (the service no longer says so; if the admin has taken that back, kiln install --allow-withdrawn forgets it here)`
    : sayWithdrawn(found);
};
