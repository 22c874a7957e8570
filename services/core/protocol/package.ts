import { z } from 'zod';
import { digest } from '../digest.ts';
import { InTreeModules } from '../packages/in-tree.ts';
import { PACKAGE_FORMATS, PACKAGE_STATES } from '../packages/plan.ts';
import { id, Maker } from './parts.ts';

/** A request for the packages of a build. */
export const CreatePackages = z.strictObject({
  format: z.enum(PACKAGE_FORMATS),
  /** The kernel's own modules that the build's depend on, for images for containers. */
  inTree: InTreeModules.exactOptional(),
});
export type CreatePackages = z.infer<typeof CreatePackages>;

/** A package of what was signed. */
export const PackageView = z.object({
  id,
  fingerprint: digest,
  format: z.enum(PACKAGE_FORMATS),
  kind: z.enum(['modules', 'settings', 'flavour', 'common']),
  name: z.string().max(255),
  version: z.string().max(255),
  /** What its own file is called. */
  file: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._+~-]{0,254}$/),
  state: z.enum(PACKAGE_STATES),
  /** The toolchain whose tools pack it. */
  toolchain: digest,
  digest: digest.nullable(),
  size: z.number().nullable(),
  problem: z.string().nullable(),
  madeBy: Maker,
  createdAt: z.number(),
  finishedAt: z.number().nullable(),
});
export type PackageView = z.infer<typeof PackageView>;
