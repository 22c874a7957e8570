import { z } from 'zod';
import { NamePattern } from '../policy/ownership.ts';
import { text, role, Maker } from './parts.ts';
import { CreateWithdrawal } from './withdrawal.ts';

const quota = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);

const quotas = z.strictObject({
  builds: quota,
  uploads: quota,
  followers: quota,
  dailyBytes: quota,
});

/** A token to make. */
export const CreateToken = z.strictObject({
  name: text(64),
  role,
  /** Patterns of the names that it owns and may publish under; without any, it may take each name that nobody has. */
  names: z.array(NamePattern).max(64).default([]),
  days: z.number().int().min(1).max(3650).default(365),
  /** Quotas of its own, instead of its role's. */
  quotas: quotas.partial().default({}),
});
export type CreateToken = z.input<typeof CreateToken>;

/** A token to revoke. */
export const RevokeToken = z.strictObject({
  /** The reason for which all that it pushed is withdrawn; without one nothing is withdrawn. */
  withdraw: CreateWithdrawal.shape.reason.optional(),
});

/** A token, without its secret. */
export const TokenView = z.object({
  id: z.string(),
  name: z.string(),
  role,
  quotas,
  names: z.array(z.string()).readonly(),
  madeBy: Maker,
  expiresAt: z.number(),
  revokedAt: z.number().nullable(),
});
export type TokenView = z.infer<typeof TokenView>;

/** The only time a token's secret is shown. */
export const IssuedToken = TokenView.extend({ secret: z.string() });
export type IssuedToken = z.infer<typeof IssuedToken>;
