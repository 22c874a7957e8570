import { z } from 'zod';
import { WITHDRAWABLE, type Withdrawal } from '../policy/withdrawal.ts';
import { text, Maker } from './parts.ts';

/** Why hosts are not given a thing any more, or `null`. */
export const withdrawn = z.string().nullable();

/** A thing to withdraw. */
export const CreateWithdrawal = z.strictObject({
  kind: z.enum(WITHDRAWABLE),
  id: text(128),
  reason: text(300).regex(/^\P{Cc}*$/u, { error: 'a reason must be one line' }),
});

/** A withdrawal. */
export const WithdrawalView = z.object({
  kind: z.enum(WITHDRAWABLE),
  id: z.string().max(128),
  name: z.string().max(200),
  reason: z.string().max(300),
  madeBy: Maker,
  createdAt: z.number(),
});
export type WithdrawalView = z.infer<typeof WithdrawalView> & Withdrawal;
