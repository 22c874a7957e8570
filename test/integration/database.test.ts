import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  openDatabase,
  readDatabase,
  transact,
  type Database,
} from '../../services/storage/database.ts';
import type { DatabaseAddress } from '../../services/storage/database-address.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { startPostgres, type Postgres } from '../machine/postgres.ts';
import { join } from 'node:path';

/** The record is the same in a file and on a server. */

let postgres: Postgres;
beforeAll(async () => {
  postgres = await startPostgres();
});
afterAll(async () => {
  await postgres.stop();
});

const kinds: readonly (readonly [string, () => Promise<DatabaseAddress>])[] = [
  ['a file', async () => ({ file: join(await freshDirectory('record'), 'kiln.sqlite') })],
  ['PostgreSQL', () => postgres.newDatabase()],
];

describe.each(kinds)('a record in %s', (_kind, newPlace) => {
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
});
