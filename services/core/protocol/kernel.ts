import { z } from 'zod';
import { TRUSTS } from '../policy/policy.ts';
import { digest } from '../digest.ts';
import { text, release, Maker } from './parts.ts';
import { withdrawn } from './withdrawal.ts';

/** A kernel to take in. */
export const CreateKernel = z.union([
  z.strictObject({ blob: digest }),
  /** What is new against a kernel that is here, and the digest of what it must make with it (core/kernel/kernel-delta.ts). */
  z.strictObject({ delta: digest, base: digest, makes: digest }),
  /** A kernel that is known already. */
  z.strictObject({ digest }),
]);

/** What a host's kernel is: `uname -r`, `uname -v`, and the digest of its options (core/kernel/kernel-config.ts). */
export const HostKernel = z.strictObject({
  release: text(128),
  build: text(256).optional(),
  options: digest.optional(),
  arch: text(32).optional(),
  /** `ID` and `ID_LIKE` of os-release(5): which package has its headers. */
  distribution: z
    .string()
    .regex(/^[a-z0-9._ -]{1,64}$/)
    .optional(),
});
export type HostKernel = z.infer<typeof HostKernel>;

/** A kernel. */
export const KernelView = z.object({
  digest,
  release,
  build: z.string().nullable(),
  arch: z.string(),
  compiler: z.string(),
  configDigest: digest,
  options: digest,
  symversDigest: digest.nullable(),
  contract: z.object({
    isClang: z.boolean(),
    linker: z.object({ kind: z.enum(['GNU ld', 'LLD']), version: z.number() }).nullable(),
    assembler: z.number().nullable(),
    pahole: z.number().nullable(),
    rustc: z.string().nullable(),
  }),
  vermagic: z.string(),
  marks: z.record(z.string(), z.string()),
  signatureHash: z.string(),
  buildDirectory: z.string(),
  sourceDirectory: z.string().nullable(),
  missing: z.array(z.string()),
  hostPrograms: z.object({ arches: z.array(z.string()), glibc: z.string().nullable() }),
  trust: z.enum(TRUSTS),
  madeBy: Maker,
  withdrawn,
  createdAt: z.number(),
});
export type KernelView = z.infer<typeof KernelView>;
