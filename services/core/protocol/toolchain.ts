import { z } from 'zod';
import { TOOLCHAIN_STATES } from '../toolchain/toolchain.ts';
import { digest } from '../digest.ts';
import { toolchainContents } from '../schemas/domain.ts';
import { text, Maker } from './parts.ts';

/** A toolchain to take in: its root file system is a blob. */
export const CreateToolchain = z.strictObject({
  blob: digest,
  name: text(64),
  /** Not to be pinned, even as the first of its name. */
  candidate: z.boolean().default(false),
});

/** A candidate to pin: `untried` pins it although it has not made what the pinned one made. */
export const PromoteToolchain = z.strictObject({ untried: z.boolean().default(false) });

/** A toolchain. */
export const ToolchainView = z.object({
  digest,
  name: z.string(),
  state: z.enum(TOOLCHAIN_STATES),
  problem: z.string().nullable(),
  contents: toolchainContents.nullable(),
  madeBy: Maker,
  /** Whether the packages that it was made of are kept with it. */
  isRemakeable: z.boolean(),
  createdAt: z.number(),
  pinnedAt: z.number().nullable(),
  retiredAt: z.number().nullable(),
});
export type ToolchainView = z.infer<typeof ToolchainView>;
