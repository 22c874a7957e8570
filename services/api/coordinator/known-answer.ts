import { buildIdOf } from '../../core/build/fingerprint.ts';
import type { Digest } from '../../core/digest.ts';
import { roleReaches } from '../../core/policy/policy.ts';
import { findWithdrawn } from '../../core/policy/withdrawal.ts';
import type { BuildView } from '../../core/protocol/build.ts';
import type { Database } from '../../storage/database.ts';
import { fromJson } from '../../storage/json-text.ts';
import type { Found } from '../../storage/record-memory.ts';
import { buildView } from '../record/build-views.ts';
import {
  deepestFirst,
  lookupsIn,
  resolveBuild,
  type BuildRequest,
} from '../record/resolve-build.ts';
import type { Caller } from '../record/tokens.ts';
import { findToolchain } from '../record/toolchains.ts';
import { readWithdrawals } from '../record/withdrawn.ts';
import type { BuildRow } from './build-moves.ts';

/** Answers that are in the record already: most requests of a fleet, which only read. */

/** Whether asking for a build changes nothing about it: it has ended, and would end so again. `key` is the service's own. */
export const isAnswered = async (
  on: Database,
  row: BuildRow,
  { key, isRetry }: { readonly key: string; readonly isRetry: boolean },
): Promise<boolean> => {
  switch (row.state) {
    case 'excluded':
      return true;
    case 'failed':
      return !isRetry && !isCurable(row);
    case 'succeeded':
      return !(await lacksSignature(on, row.id, key));
    case 'queued':
    case 'building':
    case 'signing':
    case 'cancelled':
      return false;
  }
};

/** Milliseconds for which it is enough to have noted once that a token asks for a build. */
const NOTED_FOR = 24 * 3_600_000;

/** The build that a request is answered with from the record alone, and until when at most; `null` where something is to be noted, made or signed. Throws what `resolveBuild` throws. */
export const findAnswer = async (
  db: Database,
  wanted: BuildRequest,
  caller: Caller,
  { script, key, now }: { readonly script: Digest; readonly key: string; readonly now: number },
): Promise<Found<BuildView> | null> => {
  let until = Infinity;
  const resolved = await resolveBuild(wanted, script, lookupsIn(db, caller));
  for (const each of [...deepestFirst(resolved), resolved]) {
    const id = buildIdOf(each.fingerprint);
    const row = await db.selectFrom('builds').selectAll().where('id', '=', id).executeTakeFirst();
    if (row === undefined || !roleReaches(row.asker, caller.role)) return null;
    if (!(await isAnswered(db, row, { key, isRetry: wanted.retry }))) return null;
    // What a retired toolchain may still be asked for, `noteRequest` decides.
    if (row.state !== 'succeeded' && (await findToolchain(db, row.toolchain)).state === 'retired')
      return null;
    const noted = await db
      .selectFrom('askers')
      .select('asked_at')
      .where('build', '=', id)
      .where('token', '=', caller.token)
      .where('asked_at', '>', now - NOTED_FOR)
      .executeTakeFirst();
    if (noted === undefined) return null;
    until = Math.min(until, noted.asked_at + NOTED_FOR);
  }
  return { value: await buildView(db, buildIdOf(resolved.fingerprint)), until };
};

/** Whether a succeeded build is unsigned, or signed with another key than the service's own now, or one that was withdrawn. */
const lacksSignature = async (on: Database, build: string, key: string): Promise<boolean> => {
  const made = await on
    .selectFrom('signatures')
    .select('key')
    .where('build', '=', build)
    .where('key', '=', key)
    .executeTakeFirst();
  if (made === undefined) return true;
  return findWithdrawn(await readWithdrawals(on), [['signer', key]]) !== null;
};

/** Whether another attempt may succeed: a machine or another build failed, not the source. */
const isCurable = (row: BuildRow): boolean => {
  const code = row.failure === null ? null : fromJson(row.failure).code;
  return code === 'builder-broken' || code === 'signing-failed' || code === 'dependency-failed';
};
