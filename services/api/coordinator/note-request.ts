import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import { isFinished } from '../../core/build/build-state.ts';
import type { Digest } from '../../core/digest.ts';
import { KilnError } from '../../core/errors.ts';
import { buildIdOf } from '../../core/build/fingerprint.ts';
import type { Database } from '../../storage/database.ts';
import type { Flag } from '../../storage/schema.ts';
import type { BuildRow } from './build-moves.ts';
import { deepestFirst, type ResolvedBuild } from '../record/resolve-build.ts';
import { roleReaches } from '../../core/policy/policy.ts';
import { toJson } from '../../storage/json-text.ts';
import type { Caller } from '../record/tokens.ts';
import { findToolchain } from '../record/toolchains.ts';

/** A request that is noted: its build, and all that one is built against, deepest first. */
export interface NotedRequest {
  readonly row: BuildRow;
  readonly request: string;
  readonly needs: readonly BuildRow[];
}

/** Who asks, how and when. */
export interface Asking {
  readonly caller: Caller;
  readonly isBackground: boolean;
  readonly now: number;
}

/**
 * Finds or makes the rows of a build and of those it is built against, and notes the request with the build itself: `countWaiting` counts
 * it for the others, too. Throws `no-toolchain` where a toolchain is retired.
 */
export const noteRequest = async (
  transaction: Database,
  resolved: ResolvedBuild,
  asking: Asking,
): Promise<NotedRequest> => {
  const needs: BuildRow[] = [];
  for (const dependency of deepestFirst(resolved))
    needs.push(await findOrMake(transaction, dependency, asking));
  const row = await findOrMake(transaction, resolved, asking);
  const request = randomUUID();
  await transaction
    .insertInto('requests')
    .values({ id: request, build: row.id, token: asking.caller.token, created_at: asking.now })
    .execute();
  return { row, request, needs };
};

/** The row of a build, whose dependencies have theirs. */
const findOrMake = async (
  transaction: Database,
  resolved: ResolvedBuild,
  asking: Asking,
): Promise<BuildRow> => {
  const { fingerprint, inputs } = resolved;
  const id = buildIdOf(fingerprint);
  await mustBuild(transaction, resolved.toolchain, id);
  const isTailored = resolved.waived.length > 0 || Object.keys(resolved.settings).length > 0;
  await transaction
    .insertInto('builds')
    .values({
      id,
      fingerprint,
      state: 'queued',
      attempt: 0,
      builder: null,
      source: resolved.source.digest,
      kernel: resolved.kernel.digest,
      toolchain: resolved.toolchain,
      inputs: toJson(inputs),
      settings: toJson({ ...resolved.source.settings, ...resolved.settings }),
      recipe: null,
      unsigned_because: null,
      failure: null,
      exclusion: null,
      timings: null,
      asker: asking.caller.role,
      made_by: asking.caller.token,
      is_tailored: isTailored ? 1 : 0,
      created_at: asking.now,
      started_at: null,
      finished_at: null,
    })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  for (const dependency of resolved.dependencies) {
    await transaction
      .insertInto('dependencies')
      .values({ build: id, needs: buildIdOf(dependency.fingerprint) })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
  }
  const row = await transaction
    .selectFrom('builds')
    .selectAll()
    .where('id', '=', id)
    .executeTakeFirstOrThrow();
  await noteAsker(transaction, row, asking);
  const { role } = asking.caller;
  if (!roleReaches(row.asker, role))
    await transaction.updateTable('builds').set({ asker: role }).where('id', '=', id).execute();
  return row;
};

/** Notes who asks for a build, and when. For a build that has ended it is a new request, at the end of the asker's line. */
const noteAsker = async (
  transaction: Database,
  { id, state }: BuildRow,
  { caller: { token, role }, isBackground, now }: Asking,
): Promise<void> => {
  const is_background: Flag = isBackground ? 1 : 0;
  const anew = { is_background, asked_at: now };
  const more = { is_background: sql<Flag>`askers.is_background * ${is_background}` };
  await transaction
    .insertInto('askers')
    .values({ build: id, token, role, ...anew })
    .onConflict((conflict) =>
      conflict.columns(['build', 'token']).doUpdateSet(isFinished(state) ? anew : more),
    )
    .execute();
};

/** A retired toolchain builds nothing new. Throws `no-toolchain`. */
const mustBuild = async (db: Database, toolchain: Digest, build: string): Promise<void> => {
  const { name, state } = await findToolchain(db, toolchain);
  if (state !== 'retired') return;
  const known = await db
    .selectFrom('builds')
    .select('id')
    .where('id', '=', build)
    .where('state', '=', 'succeeded')
    .executeTakeFirst();
  if (known !== undefined) return;
  throw new KilnError(
    'no-toolchain',
    `toolchain ${name} ${toolchain} is retired and builds nothing new; leave out --toolchain, or rebuild what it has built (kiln rebuild)`,
  );
};
