import { z } from 'zod';
import { errorCode } from './problem.ts';

/** A signer: its key’s id, and its certificate in PEM. */
export const SignerView = z.object({ key: z.string(), certificate: z.string() });
export type SignerView = z.infer<typeof SignerView>;

/** A miss: how often something was asked for and not had, for one reason, source and kernel release (`null` where none was named). */
export const MissView = z.object({
  reason: errorCode,
  source: z.string().nullable(),
  release: z.string().nullable(),
  count: z.number(),
  lastAt: z.number(),
});
export type MissView = z.infer<typeof MissView>;
