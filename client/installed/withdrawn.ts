import { mkdir, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import type { Digest } from '../../services/core/digest.ts';
import { KilnError } from '../../services/core/errors.ts';
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

/** The file with the service's last list of withdrawals, for when it does not answer. */
const KNOWN = 'var/lib/kiln/withdrawn.json';
const Known = z.array(WithdrawalView).max(10_000);

/** The withdrawals that this host already knows of; none where the file cannot be read. The service is not asked. */
export const knownWithdrawals = async (host: Host): Promise<readonly Withdrawal[]> => {
  try {
    const text = await readFile(await placeToRead(host, KNOWN), 'utf8');
    return Known.parse(JSON.parse(text));
  } catch {
    return [];
  }
};

/** The service's withdrawals, or its last list where it does not answer. The list is kept where this user may write it. */
export const askWithdrawals = async (
  host: Host,
  service: Pick<Service, 'withdrawals'>,
): Promise<readonly Withdrawal[]> => {
  const now = await service.withdrawals().catch((error: unknown) => {
    if (error instanceof KilnError && error.code === 'unreachable') return null;
    throw error;
  });
  if (now === null) return knownWithdrawals(host);
  const text = `${JSON.stringify(now, null, 2)}\n`;
  try {
    const place = await placeToChange(host, KNOWN);
    const before = await readFile(await placeToRead(host, KNOWN), 'utf8').catch(() => '[]\n');
    if (text === before) return now;
    await forEverybody(() => mkdir(dirname(place), { recursive: true }));
    await writeWhole(place, Buffer.from(text));
  } catch {
    // Users other than root cannot keep the list.
  }
  return now;
};

const Made = z.object({
  source: z.object({ digest: z.custom<Digest>() }),
  kernel: z.object({ tree: z.custom<Digest>() }),
  toolchain: z.custom<Digest>(),
  dependencies: z.array(z.object({ fingerprint: z.custom<Digest>() })),
});

/** Why a build is withdrawn, in words, or `null` if it is not. */
export const whyWithdrawn = (
  withdrawals: readonly Withdrawal[],
  { inputs, fingerprint, signer }: Pick<Receipt, 'inputs' | 'fingerprint' | 'signer'>,
): string | null => {
  const made = Made.safeParse(inputs).data;
  const found =
    made === undefined ? null : findWithdrawn(withdrawals, madeOf(made, fingerprint, signer));
  return found === null ? null : sayWithdrawn(found);
};
