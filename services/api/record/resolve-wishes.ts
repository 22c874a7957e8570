import { setImmediate } from 'node:timers/promises';
import { KilnError } from '../../core/errors.ts';
import type { Digest } from '../../core/digest.ts';
import type { BuildWait, ResolvedView } from '../../core/protocol/build.ts';
import type { Database } from '../../storage/database.ts';
import { fromJson } from '../../storage/json-text.ts';
import { lookupsIn, resolveBuild, type BuildRequest } from './resolve-build.ts';
import type { Reader } from './readers.ts';
import { findToolchain } from './toolchains.ts';

/** Has something done, or the kernel fetched that it lacks: then the answer is what is being done (api/http/missing-kernel.ts). */
export type OrFetch = <T>(wish: BuildRequest, ask: () => Promise<T>) => Promise<T | BuildWait>;

/**
 * Resolves each wish to the build that it would be now, with that build's state, or to the reason why it cannot be built, if only for
 * now. Starts no build.
 */
export const resolveWishes = async (
  db: Database,
  wishes: readonly BuildRequest[],
  script: Digest,
  reader: Reader,
  orFetch: OrFetch,
): Promise<readonly ResolvedView[]> => {
  const views: ResolvedView[] = [];
  const lookups = lookupsIn(db, reader);
  for (const wish of wishes) {
    // Lets other requests be answered between two wishes.
    await setImmediate();
    try {
      const resolved = await orFetch(wish, () => resolveBuild(wish, script, lookups));
      if ('waiting' in resolved) {
        const detail = `${resolved.waiting}; ask again`;
        views.push({ problem: { code: 'unavailable', detail } });
        continue;
      }
      const { source, inputs, fingerprint } = resolved;
      const row = await db
        .selectFrom('builds')
        .select(['state', 'exclusion', 'failure'])
        .where('fingerprint', '=', fingerprint)
        .executeTakeFirst();
      const { name } = await findToolchain(db, resolved.toolchain);
      views.push({
        fingerprint,
        source: { digest: source.digest, name: source.name, version: source.version },
        toolchain: { digest: resolved.toolchain, name },
        inputs: { ...inputs },
        state: row?.state ?? null,
        exclusion: row?.exclusion ?? null,
        failure: row === undefined || row.failure === null ? null : fromJson(row.failure).message,
      });
    } catch (error) {
      if (!(error instanceof KilnError)) throw error;
      views.push({ problem: { code: error.code, detail: error.message } });
    }
  }
  return views;
};
