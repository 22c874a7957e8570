import { afterAll, beforeEach, describe, expect, it } from '@jest/globals';
import {
  findOldRecords,
  removeOldRecords,
  TOKEN_COLUMNS,
} from '../../services/api/record/old-records.ts';
import { issueToken, revokeToken } from '../../services/api/record/tokens.ts';
import type { BuildState } from '../../services/core/build/build-state.ts';
import { digestOf } from '../../services/core/digest.ts';
import { oldBefore } from '../../services/core/policy/retention.ts';
import type { Trust } from '../../services/core/policy/policy.ts';
import type { Database } from '../../services/storage/database.ts';
import { toJson } from '../../services/storage/json-text.ts';
import {
  addArtifact,
  addAsker,
  addBuild,
  addKernel,
  addSource,
  addToolchain,
} from '../machine/small-record.ts';
import { emptyRecord } from '../machine/small-record.ts';

const DAY = 24 * 3_600_000;
const NOW = 1000 * DAY;
const ago = (days: number): number => NOW - days * DAY;
const BEFORE = oldBefore(NOW, 90);

let db: Database;
const opened: Database[] = [];
beforeEach(async () => {
  db = await emptyRecord('old-records');
  opened.push(db);
  await addSource(db, 'hello');
  await addKernel(db, 'release');
  await addToolchain(db, 'gcc');
});
afterAll(async () => {
  for (const each of opened) await each.destroy();
});

/** A token that ended so many days ago, by its time or by somebody’s word; `null`: that lives. */
const token = async (name: string, ended: number | null, how = 'expired'): Promise<string> => {
  const wanted = { name, role: 'client', days: 1000, names: [], quotas: {} } as const;
  const at = ended === null || how === 'revoked' ? NOW : ago(ended + 1000);
  const { id } = await issueToken(db, at, wanted, 'kilnd');
  if (ended !== null && how === 'revoked') await revokeToken(db, ago(ended), id);
  return id;
};
const build = async (id: string, state: BuildState, days: number): Promise<void> => {
  await addBuild(db, { id, state, created_at: ago(days), finished_at: ago(days) });
  await addArtifact(db, id, 'log', digestOf(id));
  await db
    .insertInto('modules')
    .values({ build: id, name: 'hello', size: 1, modinfo: toJson([]) })
    .execute();
};
/** What goes, table by table. It is the same whether it is only looked for or removed. */
const gone = async (): Promise<Readonly<Record<string, readonly string[]>>> => {
  const found = await findOldRecords(db, BEFORE);
  expect(await removeOldRecords(db, BEFORE)).toEqual(found);
  const tables = Map.groupBy(found, ({ table }) => table);
  return Object.fromEntries(
    [...tables].map(([table, rows]) => [table, rows.map(({ key }) => key).sort()]),
  );
};

describe('records that go', () => {
  it('are the artifacts and modules of builds that failed or were cancelled 90 days ago; the builds stay for who asked', async () => {
    const living = await token('living', null);
    for (const [state, days] of [
      ['failed', 91],
      ['cancelled', 91],
      ['failed', 89],
      ['excluded', 91],
      ['succeeded', 91],
      ['building', 91],
    ] as const) {
      await build(`${state}-${days}`, state, days);
      await addAsker(db, `${state}-${days}`, living);
    }
    expect(await gone()).toEqual({
      artifacts: ['cancelled-91 log', 'failed-91 log'],
      modules: ['cancelled-91 hello', 'failed-91 hello'],
    });
    expect(await db.selectFrom('builds').select('id').execute()).toHaveLength(6);
    expect(await gone()).toEqual({});
  });

  it('are such builds whole, one time after another, once only tokens asked for them that ended 90 days ago', async () => {
    const [living, revoked, expired, lately] = [
      await token('living', null),
      await token('revoked', 91, 'revoked'),
      await token('expired', 91),
      await token('lately', 89, 'revoked'),
    ];
    const asked = { failed: [revoked, expired], excluded: [expired], succeeded: [expired] };
    for (const [state, tokens] of Object.entries(asked)) {
      await build(state, state as BuildState, 91);
      for (const each of tokens) await addAsker(db, state, each);
    }
    for (const [id, each] of [
      ['of-living', living],
      ['of-lately', lately],
    ] as const) {
      await build(id, 'failed', 91);
      await addAsker(db, id, each);
      await addAsker(db, id, expired);
    }
    await build('needed', 'failed', 91);
    await build('above', 'succeeded', 91);
    await db.insertInto('dependencies').values({ build: 'above', needs: 'needed' }).execute();

    const first = await gone();
    expect(first['builds']).toBeUndefined();
    expect(first['askers']).toHaveLength(6);
    expect(await gone()).toEqual({
      builds: ['excluded', 'failed'],
      tokens: [expired, revoked].sort(),
    });
    expect(await gone()).toEqual({});
    const left = await db.selectFrom('builds').select('id').orderBy('id').execute();
    expect(left.map(({ id }) => id)).toEqual([
      'above',
      'needed',
      'of-lately',
      'of-living',
      'succeeded',
    ]);
    expect(await db.selectFrom('tokens').select('id').execute()).toHaveLength(2);
  });

  it('are sources and kernels of a client’s whose tokens have ended, that nobody vouches for and nothing was built of', async () => {
    const [living, ended] = [await token('living', null), await token('ended', 91)];
    const add = async (name: string, trust: Trust, by: string, age = 91): Promise<void> => {
      const digest = digestOf(name);
      await addSource(db, name);
      await db.deleteFrom('source_names').where('source', '=', digest).execute();
      const as = { trust, made_by: by, created_at: ago(age) };
      await db.updateTable('sources').set(as).where('digest', '=', digest).execute();
      await db.insertInto('pushers').values({ tree: digest, token: by }).execute();
    };
    await add('forsaken', 'client', ended);
    await add('vouched', 'ci', ended);
    await add('living', 'client', living);
    await add('built', 'client', ended);
    await addBuild(db, { id: 'build', source: digestOf('built') });
    await addKernel(db, 'forsaken-kernel');
    await db
      .updateTable('kernels')
      .set({ trust: 'client', created_at: ago(91), made_by: ended })
      .where('digest', '=', digestOf('forsaken-kernel'))
      .execute();
    const first = await gone();
    expect(Object.keys(first)).toEqual(['pushers', 'kernels']);
    expect(first['pushers']).toHaveLength(3);
    expect(await gone()).toEqual({ sources: [digestOf('forsaken')] });
    // Records still name it: what it made stays, and says so.
    expect(await gone()).toEqual({});
    expect(await db.selectFrom('tokens').select('id').execute()).toHaveLength(2);
  });

  it('are misses, rebuilds that found nothing and refused toolchains, each of 90 days ago', async () => {
    await build('build', 'succeeded', 400);
    const rebuild = { build: 'build', builder: null, findings: toJson([]), created_at: ago(100) };
    for (const [state, days] of [
      ['same', 91],
      ['failed', 91],
      ['different', 91],
      ['same', 89],
    ] as const)
      await db
        .insertInto('rebuilds')
        .values({ ...rebuild, id: `${state}-${days}`, state, finished_at: ago(days) })
        .execute();
    for (const days of [91, 89])
      await db
        .insertInto('misses')
        .values({
          reason: 'not-found',
          source: 'zfs',
          release: `${days}`,
          count: 1,
          last_at: ago(days),
        })
        .execute();
    for (const name of ['refused', 'built-with']) {
      await addToolchain(db, name);
      const as = { state: 'refused', created_at: ago(91) } as const;
      await db.updateTable('toolchains').set(as).where('name', '=', name).execute();
    }
    await addBuild(db, { id: 'with', toolchain: digestOf('built-with') });
    expect(await gone()).toEqual({
      rebuilds: ['failed-91', 'same-91'],
      misses: ['not-found zfs 91'],
      toolchains: [digestOf('refused')],
    });
  });

  it('are no token that any column names, whichever', async () => {
    const tables = await db.introspection.getTables();
    const naming = tables.flatMap(({ name, columns }) =>
      columns.flatMap((column) =>
        ['token', 'made_by', 'owner'].includes(column.name) ? [`${name}.${column.name}`] : [],
      ),
    );
    expect(TOKEN_COLUMNS.map((column) => column.join('.')).sort()).toEqual(naming.sort());
  });
});
