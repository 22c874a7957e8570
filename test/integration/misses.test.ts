import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { listMisses, noteMiss } from '../../services/api/record/misses.ts';
import type { MissView } from '../../services/core/protocol/fleet.ts';
import { openDatabase, type Database } from '../../services/storage/database.ts';
import { freshDirectory } from '../machine/make-source.ts';

describe('the record of misses', () => {
  let db: Database;
  beforeAll(async () => {
    db = await openDatabase({ file: join(await freshDirectory('misses'), 'kiln.db') });
  });
  afterAll(() => db.destroy());

  /** All misses, page by page. */
  const all = async (): Promise<readonly MissView[]> => {
    const found: MissView[] = [];
    let after: string | undefined;
    do {
      const { items, next } = await listMisses(db, { after, limit: 70 });
      found.push(...items);
      after = next ?? undefined;
    } while (after !== undefined);
    return found;
  };
  const miss = (source: string) => ({ reason: 'not-found', source, release: '6.1.0' }) as const;

  it('has one row for one reason, source and release, with how often and when last', async () => {
    await noteMiss(db, 1, miss('a'), 1);
    await noteMiss(db, 3, miss('a'), 4);
    await noteMiss(db, 2, miss(''), 1);
    expect(await all()).toEqual([
      { reason: 'not-found', source: 'a', release: '6.1.0', count: 5, lastAt: 3 },
      { reason: 'not-found', source: null, release: '6.1.0', count: 1, lastAt: 2 },
    ]);
  });

  it('has at most 10,000 rows: the oldest go', async () => {
    await db.transaction().execute(async (transaction) => {
      for (let time = 10; time < 10_010; time += 1)
        await transaction
          .insertInto('misses')
          .values({ ...miss(`filler${time}`), count: 1, last_at: time })
          .execute();
    });
    await noteMiss(db, 20_000, miss('newest'), 1);
    const kept = await all();
    expect(kept).toHaveLength(10_000);
    expect(kept[0]).toMatchObject({ source: 'newest' });
    expect(kept.at(-1)).toMatchObject({ source: 'filler11' });
  });
});
