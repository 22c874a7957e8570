import { setImmediate } from 'node:timers/promises';
import { KilnError, type ErrorCode } from '../../core/errors.ts';
import type { Digest } from '../../core/digest.ts';
import type { ResolvedView } from '../../core/protocol/build.ts';
import type { Database } from '../../storage/database.ts';
import { fromJson } from '../../storage/json-text.ts';
import { lookupsIn, resolveBuild, type BuildRequest } from './resolve-build.ts';
import type { Reader } from './readers.ts';
import { findToolchain } from './toolchains.ts';

/**
 * Resolves each wish to the build that it would be now, with that build's state, or to the reason why it cannot be built. Starts no
 * build. `fetchMissing` has a kernel fetched that a wish lacks, and tells what is being done; it throws where that is of no use.
 */
export const resolveWishes = async (
  db: Database,
  wishes: readonly BuildRequest[],
  script: Digest,
  reader: Reader,
  fetchMissing: (wish: BuildRequest, refusal: unknown) => Promise<string>,
): Promise<readonly ResolvedView[]> => {
  const views: ResolvedView[] = [];
  const lookups = lookupsIn(db, reader);
  for (const wish of wishes) {
    // Lets other requests be answered between two wishes.
    await setImmediate();
    try {
      const resolved = await resolveBuild(wish, script, lookups);
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
      views.push({ problem: await problemOf(() => fetchMissing(wish, error)) });
    }
  }
  return views;
};

/** What is wrong for now where a kernel is being fetched, else for good. */
const problemOf = async (
  fetching: () => Promise<string>,
): Promise<{ readonly code: ErrorCode; readonly detail: string }> => {
  try {
    return { code: 'unavailable', detail: `${await fetching()}; ask again` };
  } catch (error) {
    if (!(error instanceof KilnError)) throw error;
    return { code: error.code, detail: error.message };
  }
};
