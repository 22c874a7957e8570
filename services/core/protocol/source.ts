import { z } from 'zod';
import { TRUSTS } from '../policy/policy.ts';
import { SOURCE_NAME, SOURCE_VERSION } from '../source/source.ts';
import { digest } from '../digest.ts';
import { hostFiles } from '../schemas/domain.ts';
import { text, packageName, settings, Maker, PageQuery } from './parts.ts';
import { withdrawn } from './withdrawal.ts';

/** A source to take in, and what its pusher claims of it. */
export const CreateSource = z.strictObject({
  blob: digest,
  name: text(64).optional(),
  version: text(64).optional(),
  depends: z.array(z.string().regex(SOURCE_NAME)).max(32).optional(),
  needs: z.array(packageName).max(64).optional(),
  settings: settings.optional(),
  /** Files of the tree that hosts get beside the modules: for each place there a path in the tree. */
  files: z.record(text(1024), text(1024)).optional(),
  /** The Git commit the tree was checked out from. */
  commit: z
    .string()
    .regex(/^[0-9a-f]{40,64}$/)
    .optional(),
});

/** Which sources are listed: those under a name, in one version; with `tree`, all that have this tree and that the caller may use. */
export const SourcesQuery = PageQuery.extend({
  name: text(64).optional(),
  version: text(64).optional(),
  tree: digest.optional(),
});
export type SourcesQuery = z.output<typeof SourcesQuery>;

/** Gives a source's name to a token; to the caller's own where none is named. */
export const GiveName = z.strictObject({ token: text(64).optional() });

/** A source. */
export const SourceView = z.object({
  digest,
  tree: digest,
  name: z.string().regex(SOURCE_NAME),
  version: z.string().regex(SOURCE_VERSION),
  kind: z.enum(['dkms', 'kbuild']),
  autoinstall: z.boolean(),
  depends: z.array(z.string().regex(SOURCE_NAME)),
  needs: z.array(packageName),
  settings,
  files: hostFiles,
  commit: z.string().nullable(),
  trust: z.enum(TRUSTS),
  madeBy: Maker,
  withdrawn,
  createdAt: z.number(),
});
export type SourceView = z.infer<typeof SourceView>;
