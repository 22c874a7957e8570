import type { Log } from '../storage/log.ts';
import { collectBlobs } from './record/collect-blobs.ts';
import type { UploadDeps } from './record/uploads.ts';

/** How often the service collects, and how long it keeps what. */
export interface CollectingConfig {
  /** 0: never by itself. */
  readonly collectHours: number;
  readonly keepFailedDays: number;
}

/** Collects blobs at once and every so many hours, beside all else. `stop` ends what is under way. */
export const keepCollecting = (
  deps: UploadDeps,
  { collectHours, keepFailedDays }: CollectingConfig,
  log: Log,
): { stop(): Promise<void> } => {
  const stopping = new AbortController();
  let running: Promise<void> = Promise.resolve();
  const collect = async (): Promise<void> => {
    try {
      const { signal } = stopping;
      const collected = await collectBlobs(deps, { keepFailedDays, isDry: false, signal });
      if (Object.values(collected).some(({ blobs }) => blobs > 0))
        log.info(collected, 'blobs collected');
    } catch (error) {
      log.warn({ err: error }, 'collecting blobs');
    }
  };
  const next = (): void => {
    running = running.then(collect);
  };
  const timer = collectHours === 0 ? null : setInterval(next, collectHours * 3_600_000);
  if (timer !== null) next();
  return {
    async stop() {
      if (timer !== null) clearInterval(timer);
      stopping.abort();
      await running;
    },
  };
};
