import { afterAll, beforeEach, describe, expect, it } from '@jest/globals';
import { listMisses } from '../../services/api/record/misses.ts';
import { CreateBuild, type BuildTicket } from '../../services/core/protocol/build.ts';
import type { Database } from '../../services/storage/database.ts';
import { addKernel, addSource, addToolchain, emptyRecord } from '../machine/small-record.ts';
import { stillCoordinator, type StillCoordinator } from '../machine/still-coordinator.ts';

const RELEASE = '6.1.0-1-amd64';

describe('a request that waits for the builds its own is built against', () => {
  const records: Database[] = [];
  let db: Database;
  let coordinator: StillCoordinator;
  beforeEach(async () => {
    db = await emptyRecord('cancelling');
    records.push(db);
    await addKernel(db, RELEASE);
    await addToolchain(db, 'gcc');
    await addSource(db, 'ground');
    await addSource(db, 'wall', ['ground']);
    await addSource(db, 'door');
    await addSource(db, 'house', ['wall', 'door']);
    await addSource(db, 'tower', ['wall']);
    coordinator = stillCoordinator(db);
  });
  afterAll(async () => {
    for (const record of records) await record.destroy();
  });

  const ask = (name: string): Promise<BuildTicket> =>
    coordinator.request(CreateBuild.parse({ source: { name }, kernel: { release: RELEASE } }), {
      token: 'token',
      role: 'ci',
      quotas: null,
    });
  const takeBack = ({ build, request }: BuildTicket): Promise<void> =>
    coordinator.cancel(build.id, request);
  const states = async (): Promise<Record<string, string>> => {
    const rows = await db
      .selectFrom('builds')
      .innerJoin('sources', 'sources.digest', 'builds.source')
      .select(['sources.name', 'builds.state'])
      .execute();
    return Object.fromEntries(rows.map(({ name, state }) => [name, state]));
  };
  const idOf = async (name: string): Promise<string> => {
    const row = await db
      .selectFrom('builds')
      .innerJoin('sources', 'sources.digest', 'builds.source')
      .select('builds.id')
      .where('sources.name', '=', name)
      .executeTakeFirstOrThrow();
    return row.id;
  };
  const ended = 'cancelled';

  it('takes them with it, layer by layer, and those that are at work are told', async () => {
    const house = await ask('house');
    const ground = await idOf('ground');
    await coordinator.begun({ build: ground, attempt: 0 });
    await takeBack(house);
    expect(await states()).toEqual({ house: ended, wall: ended, door: ended, ground: ended });
    expect([...coordinator.builder.jobs.keys()]).toEqual([]);
    expect(coordinator.cancelled.has(`${ground}-0`)).toBe(true);
    expect(await db.selectFrom('requests').selectAll().execute()).toEqual([]);
  });

  it('leaves alone what another request is built against', async () => {
    const house = await ask('house');
    const tower = await ask('tower');
    await takeBack(house);
    const left = { wall: 'queued', ground: 'queued', tower: 'queued' };
    expect(await states()).toEqual({ ...left, house: ended, door: ended });
    await takeBack(tower);
    expect(Object.values(await states())).toEqual(Array(5).fill(ended));
  });

  it('leaves alone what somebody asked for by itself, and what two ask for until both take that back', async () => {
    const first = await ask('house');
    const second = await ask('house');
    const wall = await ask('wall');
    await takeBack(first);
    expect(Object.values(await states())).toEqual(Array(4).fill('queued'));
    await takeBack(second);
    expect(await states()).toEqual({
      house: ended,
      door: ended,
      wall: 'queued',
      ground: 'queued',
    });
    await takeBack(wall);
    expect(Object.values(await states())).toEqual(Array(4).fill(ended));
  });

  it('keeps one of them going that its own asker gives up', async () => {
    await ask('house');
    await takeBack(await ask('wall'));
    expect(Object.values(await states())).toEqual(Array(4).fill('queued'));
  });

  it('fails where an admin cancels one of them for everybody, and what only that needed ends too', async () => {
    await ask('house');
    await coordinator.cancel(await idOf('wall'), null);
    expect(await states()).toMatchObject({ house: 'failed', wall: ended, ground: ended });
  });

  it('may be made again, and all goes on', async () => {
    await takeBack(await ask('house'));
    await ask('house');
    expect(Object.values(await states())).toEqual(Array(4).fill('queued'));
    expect([...coordinator.builder.jobs.keys()].sort()).toEqual(
      [`${await idOf('ground')}-1`, `${await idOf('door')}-1`].sort(),
    );
  });

  it('is counted once with each of them that is not had', async () => {
    await ask('house');
    await ask('tower');
    const failure = { code: 'compile-failed', message: 'no', lines: [] } as const;
    const build = await idOf('wall');
    const run = { build, attempt: 0 };
    await coordinator.begun(run, { kind: 'failed', ...run, failure, log: null });
    const counts = (await listMisses(db, { limit: 10 })).items.map(({ source, count }) => [
      source,
      count,
    ]);
    expect(Object.fromEntries(counts)).toEqual({ 'wall/1.0': 2, 'house/1.0': 1, 'tower/1.0': 1 });
  });
});
