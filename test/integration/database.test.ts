import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  holdBlob,
  openDatabase,
  readDatabase,
  transact,
  type Database,
} from '../../services/storage/database.ts';
import { digestOf } from '../../services/core/digest.ts';
import type { DatabaseAddress } from '../../services/storage/database-address.ts';
import { startPostgres, type Postgres } from '../machine/postgres.ts';
import { recordKinds } from '../machine/record-kinds.ts';
import { until } from '../machine/until.ts';

/** The record is the same in a file and on a server. */

let postgres: Postgres;
beforeAll(async () => {
  postgres = await startPostgres();
});
afterAll(async () => {
  await postgres.stop();
});

describe.each(recordKinds(() => postgres))('a record in %s', (_kind, newPlace) => {
  let place: DatabaseAddress;
  let db: Database;
  beforeAll(async () => {
    place = await newPlace();
    db = await openDatabase(place);
  });
  afterAll(() => db.destroy());

  const sent = (token: string, day: number, bytes: number) => ({ token, day, bytes });

  it('gives numbers of 64 bits as they were', async () => {
    await db
      .insertInto('sent')
      .values(sent('big', 1, 2 ** 50 + 1))
      .execute();
    const found = await db
      .selectFrom('sent')
      .select(({ fn }) => [
        'bytes',
        fn.countAll<number>().as('count'),
        fn.sum<number>('bytes').as('sum'),
      ])
      .where('token', '=', 'big')
      .groupBy('bytes')
      .executeTakeFirstOrThrow();
    expect(found).toEqual({ bytes: 2 ** 50 + 1, count: 1, sum: 2 ** 50 + 1 });
  });

  it('orders texts by their bytes', async () => {
    const texts = ['a-b', 'B', 'a', 'ä', 'ab', '_', 'A-C', 'AB', '\u{1F600}', '\uFB01'];
    for (const token of texts)
      await db
        .insertInto('sent')
        .values(sent(token, 2, 0))
        .execute();
    const rows = await db
      .selectFrom('sent')
      .select('token')
      .where('day', '=', 2)
      .orderBy('token')
      .execute();
    const bytewise = texts.toSorted((one, other) =>
      Buffer.compare(Buffer.from(one), Buffer.from(other)),
    );
    expect(rows.map(({ token }) => token)).toEqual(bytewise);
  });

  it('finds nothing among nothing', async () => {
    expect(await db.selectFrom('sent').selectAll().where('token', 'in', []).execute()).toEqual([]);
    const all = await db.selectFrom('sent').selectAll().where('token', 'not in', []).execute();
    expect(all.length).toBeGreaterThan(1);
  });

  it('keeps nothing of a transaction that fails', async () => {
    const failing = transact(db, async (on) => {
      await on
        .insertInto('sent')
        .values(sent('lost', 3, 1))
        .execute();
      throw new Error('no more');
    });
    await expect(failing).rejects.toThrow('no more');
    expect(await db.selectFrom('sent').selectAll().where('day', '=', 3).execute()).toEqual([]);
  });

  it('lets no two transactions decide by the same state', async () => {
    // Each adds one to what it has read: whatever they read and write at once, none is lost.
    await db
      .insertInto('sent')
      .values(sent('sum', 4, 0))
      .execute();
    const add = (): Promise<unknown> =>
      transact(db, async (on) => {
        const { bytes } = await on
          .selectFrom('sent')
          .select('bytes')
          .where('token', '=', 'sum')
          .executeTakeFirstOrThrow();
        await on
          .updateTable('sent')
          .set({ bytes: bytes + 1 })
          .where('token', '=', 'sum')
          .execute();
      });
    await Promise.all(Array.from({ length: 40 }, add));
    const { bytes } = await db
      .selectFrom('sent')
      .select('bytes')
      .where('token', '=', 'sum')
      .executeTakeFirstOrThrow();
    expect(bytes).toBe(40);
  });

  it('lets no two transactions each see that the other has done nothing', async () => {
    // Write skew: what each reads, the other writes.
    const first = (mine: string, other: string): Promise<unknown> =>
      transact(db, async (on) => {
        const there = await on
          .selectFrom('sent')
          .select('token')
          .where('day', '=', 5)
          .where('token', '=', other)
          .execute();
        if (there.length === 0)
          await on
            .insertInto('sent')
            .values(sent(mine, 5, 0))
            .execute();
      });
    await Promise.all([first('one', 'other'), first('other', 'one')]);
    expect(await db.selectFrom('sent').selectAll().where('day', '=', 5).execute()).toHaveLength(1);
  });

  it('is read by others that change nothing', async () => {
    const reader = await readDatabase(place);
    expect((await reader.selectFrom('sent').selectAll().execute()).length).toBeGreaterThan(1);
    await expect(reader.deleteFrom('sent').execute()).rejects.toThrow(/read-?only/);
    await reader.destroy();
  });

  it('lets nobody claim a blob while it is removed, and who waited sees what was done', async () => {
    const done: string[] = [];
    const blob = digestOf('held');
    const claim = (token: string): Promise<number> =>
      holdBlob(db, blob, 'claim', async (on) => {
        const rows = await on.selectFrom('sent').selectAll().where('day', '=', 6).execute();
        await on
          .insertInto('sent')
          .values(sent(token, 6, 0))
          .execute();
        done.push(token);
        return rows.length;
      });
    const removal = holdBlob(db, blob, 'removal', async (on) => {
      done.push('begun');
      await sleep(200);
      await on
        .insertInto('sent')
        .values(sent('removal', 6, 0))
        .execute();
      done.push('removed');
    });
    await until('it is being removed', () => done.includes('begun'));
    const seen = await Promise.all([claim('one'), claim('two'), removal]);
    expect(done.slice(0, 2)).toEqual(['begun', 'removed']);
    expect(Math.min(...seen.slice(0, 2).map(Number))).toBe(1);
  });
});

describe('a server', () => {
  it('is brought up to date once, by whichever of several comes first', async () => {
    const place = await postgres.newDatabase();
    const opened = await Promise.all(Array.from({ length: 4 }, () => openDatabase(place)));
    const [first] = opened;
    expect(await first?.selectFrom('tokens').selectAll().execute()).toEqual([]);
    await Promise.all(opened.map((each) => each.destroy()));
  });

  it('that goes away is said to be away, whatever was under way, and is used again when it is back', async () => {
    const db = await openDatabase(await postgres.newDatabase());
    const { promise: isBegun, resolve: begun } = Promise.withResolvers<undefined>();
    const halfway = transact(db, async (on) => {
      await on.insertInto('sent').values({ token: 'half', day: 1, bytes: 0 }).execute();
      begun(undefined);
      await sleep(1000);
      await on.insertInto('sent').values({ token: 'whole', day: 1, bytes: 0 }).execute();
    });
    await isBegun;
    const away = {
      code: 'unavailable',
      message: expect.stringMatching(/does not answer; try again/),
    };
    await Promise.all([expect(halfway).rejects.toMatchObject(away), postgres.stop(true)]);
    const read = () => db.selectFrom('sent').selectAll().execute();
    await expect(read()).rejects.toMatchObject(away);
    await postgres.start();
    expect(await read()).toEqual([]);
    await db.destroy();
  });

  it('that refuses the password is not taken for one that is away for ever', async () => {
    const place = await postgres.newDatabase();
    await expect(openDatabase({ ...place, password: 'other' })).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringMatching(/the database refuses/),
    });
  });
});
