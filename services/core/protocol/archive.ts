import { z } from 'zod';
import { digest } from '../digest.ts';
import { text, Maker } from './parts.ts';

/** An archive to follow: `core/kernel/archive.ts` checks what is in it. */
export const CreateArchive = z.strictObject({
  name: text(64),
  sources: text(16 * 1024),
  headers: text(300),
});

/** An archive that is followed. */
export const ArchiveView = CreateArchive.extend({ madeBy: Maker, createdAt: z.number() });
export type ArchiveView = z.infer<typeof ArchiveView>;

/** The state of the run over the archives, or the end of the last one. */
export const SyncView = z.object({
  state: z.enum(['idle', 'running']),
  step: z.string(),
  kernels: z.array(z.object({ release: z.string(), digest, isNew: z.boolean() })),
  /** Builds that it began. */
  builds: z.array(z.string()),
  problems: z.array(z.string()),
  finishedAt: z.number().nullable(),
});
export type SyncView = z.infer<typeof SyncView>;
