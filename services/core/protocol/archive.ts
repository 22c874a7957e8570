import { z } from 'zod';
import { digest } from '../digest.ts';
import { ARCHIVE_KINDS } from '../kernel/archive.ts';
import { text, Maker } from './parts.ts';

/** An archive to follow: `core/kernel/archive.ts` checks what is in it. */
export const CreateArchive = z.strictObject({
  name: text(64),
  kind: z.enum(ARCHIVE_KINDS),
  sources: text(16 * 1024),
  headers: text(300),
  modules: text(300).nullable().default(null),
  /** Whether the sources that come from it, and say AUTOINSTALL, are built for each of its new kernels. */
  buildsAhead: z.boolean().default(false),
});
export type CreateArchive = z.input<typeof CreateArchive>;

/** An archive that is followed. */
export const ArchiveView = z.object({
  ...CreateArchive.shape,
  madeBy: Maker,
  createdAt: z.number(),
});
export type ArchiveView = z.infer<typeof ArchiveView>;

/** The state of the run over the archives, or the end of the last one. */
export const SyncView = z.object({
  state: z.enum(['idle', 'running']),
  step: z.string(),
  kernels: z.array(z.object({ release: z.string(), digest, isNew: z.boolean() })),
  /** Modules' sources that the archives have now. */
  sources: z.array(
    z.object({
      package: z.string(),
      digest,
      name: z.string(),
      version: z.string(),
      isNew: z.boolean(),
    }),
  ),
  /** Builds that it began. */
  builds: z.array(z.string()),
  problems: z.array(z.string()),
  finishedAt: z.number().nullable(),
});
export type SyncView = z.infer<typeof SyncView>;
