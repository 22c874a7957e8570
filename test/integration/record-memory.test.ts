import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { openDatabase, transact, type Database } from '../../services/storage/database.ts';
import { createRecordMemory, type RecordMemory } from '../../services/storage/record-memory.ts';
import { startPostgres, type Postgres } from '../machine/postgres.ts';
import { recordKinds } from '../machine/record-kinds.ts';

/** What was found in the record is found anew after any change, whoever made it. */

let postgres: Postgres;
beforeAll(async () => {
  postgres = await startPostgres();
});
afterAll(async () => {
  await postgres.stop();
});

describe.each(recordKinds(() => postgres))(
  'what was found in a record in %s',
  (_kind, newPlace) => {
    let db: Database;
    let other: Database;
    let memory: RecordMemory;
    let time = 1000;
    let looked = 0;
    beforeAll(async () => {
      const place = await newPlace();
      db = await openDatabase(place);
      other = await openDatabase(place);
      memory = createRecordMemory(db, () => time);
      await add(db, 'first');
    });
    afterAll(async () => {
      await db.destroy();
      await other.destroy();
    });

    const add = async (on: Database, token: string): Promise<void> => {
      await on.insertInto('sent').values({ token, day: 1, bytes: 1 }).execute();
    };
    const count = (): Promise<number | null> =>
      memory.recall('count', async () => {
        looked += 1;
        const rows = await db.selectFrom('sent').selectAll().execute();
        return { value: rows.length, until: 5000 };
      });
    /** What is recalled, and whether it was looked for. */
    const recalled = async (): Promise<readonly [number | null, boolean]> => {
      const before = looked;
      return [await count(), looked > before];
    };

    it('is recalled while nothing changes', async () => {
      expect(await recalled()).toEqual([1, true]);
      expect(await recalled()).toEqual([1, false]);
    });

    it('is found anew after a change by this process, or by another', async () => {
      await add(db, 'own');
      expect(await recalled()).toEqual([2, true]);
      await add(other, 'others');
      expect(await recalled()).toEqual([3, true]);
      await transact(other, async (on) => {
        await on.updateTable('sent').set({ bytes: 2 }).where('token', '=', 'own').execute();
      });
      expect(await recalled()).toEqual([3, true]);
      expect(await recalled()).toEqual([3, false]);
    });

    it('is not kept where something changed while it was looked for', async () => {
      const slow = await memory.recall('slow', async () => {
        const rows = await db.selectFrom('sent').selectAll().execute();
        await add(other, 'meanwhile');
        return { value: rows.length, until: 5000 };
      });
      expect(slow).toBe(3);
      expect(await memory.recall('slow', async () => ({ value: 4, until: 5000 }))).toBe(4);
    });

    it('is found anew when its time is over, and nothing is kept of nothing', async () => {
      await count();
      time = 6000;
      expect((await recalled())[1]).toBe(true);
      expect(await memory.recall('nothing', async () => null)).toBeNull();
      expect(await memory.recall('nothing', async () => ({ value: 1, until: 9000 }))).toBe(1);
    });
  },
);
