import { unlessBusy } from '../storage/alone.ts';
import type { Log } from '../storage/log.ts';
import { collect, summarise } from './record/collect.ts';
import type { UploadDeps } from './record/uploads.ts';

/** How often the service collects, and how long it keeps what. */
export interface CollectingConfig {
  /** 0: never by itself. */
  readonly collectHours: number;
  readonly keepDays: number;
}

/** Collects old records and blobs at once and every so many hours, beside all else. `stop` ends what is under way. */
export const keepCollecting = (
  deps: UploadDeps,
  { collectHours, keepDays }: CollectingConfig,
  log: Log,
): { stop(): Promise<void> } => {
  const stopping = new AbortController();
  let running: Promise<void> = Promise.resolve();
  const once = async (): Promise<void> => {
    try {
      const { signal } = stopping;
      const collected = await unlessBusy(deps.db, 'collection', () =>
        collect(deps, { keepDays, isDry: false, signal }),
      );
      const sums = collected === null ? {} : summarise(collected);
      if (Object.keys(sums).length > 0) log.info(sums, 'collected');
    } catch (error) {
      log.warn({ err: error }, 'collecting');
    }
  };
  const next = (): void => {
    running = running.then(once);
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
