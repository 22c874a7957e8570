import { randomUUID } from 'node:crypto';
import type { Digest } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import { buildIdOf, fingerprintOf } from '../core/fingerprint.ts';
import type { Database } from '../storage/database.ts';
import type { BuildRow } from './build-moves.ts';
import { inputsOf, type ResolvedBuild } from './resolve-build.ts';
import { roleReaches, type Role } from '../core/policy.ts';
import { findToolchain } from './toolchains.ts';

/** A request as it stands in SQL: its build, and those that one depends on, deepest first. */
export interface Asked {
  readonly row: BuildRow;
  readonly request: string;
  readonly needs: readonly Asked[];
}

/** Who asks: a token, and its role. */
export interface Asker {
  readonly token: string;
  readonly role: Role;
}

/** Who asks, when, and with which build script. */
export interface Asking extends Asker {
  readonly script: Digest;
  readonly now: number;
}

/** Finds or makes a build's row, those it depends on first, and notes who asks. */
export const noteRequest = async (
  transaction: Database,
  resolved: ResolvedBuild,
  asking: Asking,
): Promise<Asked> => {
  const needs: Asked[] = [];
  for (const dependency of resolved.dependencies)
    needs.push(await noteRequest(transaction, dependency, asking));
  const inputs = inputsOf(resolved, asking.script);
  const fingerprint = fingerprintOf(inputs);
  const id = buildIdOf(fingerprint);
  await mustBuild(transaction, resolved.toolchain, id);
  const isTailored = resolved.waived.length > 0 || Object.keys(resolved.settings).length > 0;
  const request = randomUUID();
  await transaction
    .insertInto('builds')
    .values({
      id,
      fingerprint,
      state: 'queued',
      attempt: 0,
      source: resolved.source.digest,
      kernel: resolved.kernel.digest,
      toolchain: resolved.toolchain,
      inputs: JSON.stringify(inputs),
      settings: JSON.stringify({ ...resolved.source.settings, ...resolved.settings }),
      recipe: null,
      exports: null,
      signature: null,
      failure: null,
      exclusion: null,
      log: null,
      attestation: null,
      timings: null,
      asker: asking.role,
      is_tailored: isTailored ? 1 : 0,
      created_at: asking.now,
      started_at: null,
      finished_at: null,
    })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  for (const { row } of needs) {
    await transaction
      .insertInto('dependencies')
      .values({ build: id, needs: row.id })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
  }
  await transaction
    .insertInto('requests')
    .values({ id: request, build: id, token: asking.token, created_at: asking.now })
    .execute();
  const row = await transaction
    .selectFrom('builds')
    .selectAll()
    .where('id', '=', id)
    .executeTakeFirstOrThrow();
  if (!roleReaches(row.asker as Role, asking.role))
    await transaction
      .updateTable('builds')
      .set({ asker: asking.role })
      .where('id', '=', id)
      .execute();
  return { row, request, needs: needs.flatMap((need) => [...need.needs, need]) };
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
    `toolchain ${name} ${toolchain} is retired: it rebuilds what it has built (kiln rebuild), and nothing new; leave out --toolchain`,
  );
};
