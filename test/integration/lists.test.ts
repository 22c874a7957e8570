import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { listBuilds } from '../../services/api/record/build-views.ts';
import { CreateBuild } from '../../services/core/protocol/build.ts';
import type { Database } from '../../services/storage/database.ts';
import {
  addKernel,
  addSource,
  addToolchain,
  countStatements,
  emptyRecord,
} from '../machine/small-record.ts';
import { stillCoordinator } from '../machine/still-coordinator.ts';

const ADMIN = { token: 'admin', role: 'admin', quotas: null } as const;

describe('a list of builds', () => {
  let db: Database;
  beforeAll(async () => {
    db = await emptyRecord('lists');
    await addToolchain(db, 'gcc');
    await addSource(db, 'ground');
    await addSource(db, 'wall', ['ground']);
    const coordinator = stillCoordinator(db);
    for (let patch = 1; patch <= 25; patch += 1) {
      const release = `6.1.0-${patch}-amd64`;
      await addKernel(db, release);
      const wanted = { source: { name: 'wall' }, kernel: { release } };
      await coordinator.request(CreateBuild.parse(wanted), ADMIN);
    }
  });
  afterAll(() => db.destroy());

  it('takes as many statements for 50 builds as for one', async () => {
    const statementsFor = async (limit: number): Promise<number> => {
      const { counted, statements } = countStatements(db);
      expect((await listBuilds(counted, ADMIN, { limit })).items).toHaveLength(limit);
      return statements();
    };
    const forOne = await statementsFor(1);
    expect(await statementsFor(50)).toBe(forOne);
  });

  it('has each build once over its pages, in one order, whatever their size', async () => {
    const whole = await listBuilds(db, ADMIN, { limit: 200 });
    expect(whole).toMatchObject({ next: null, items: { length: 50 } });
    const found: string[] = [];
    let after: string | undefined;
    do {
      const { items, next } = await listBuilds(db, ADMIN, { after, limit: 10 });
      found.push(...items.map(({ id }) => id));
      after = next ?? undefined;
    } while (after !== undefined);
    expect(found).toEqual(whole.items.map(({ id }) => id));
  });

  it.each([
    '',
    'lost',
    '!!',
    Buffer.from('[1]').toString('base64url'),
    Buffer.from('["x","y"]').toString('base64url'),
  ])('is refused after %j, which is no place in it', async (after) => {
    await expect(listBuilds(db, ADMIN, { after, limit: 10 })).rejects.toMatchObject({
      code: 'bad-request',
    });
  });
});
