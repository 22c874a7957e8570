import { stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeEach, describe, expect, it } from '@jest/globals';
import { collect as collectFrom, summarise } from '../../services/api/record/collect.ts';
import { BLOB_COLUMNS } from '../../services/api/record/named-blobs.ts';
import {
  claimUpload,
  dropUpload,
  storeUpload,
  useUpload,
} from '../../services/api/record/uploads.ts';
import type { BuildState } from '../../services/core/build/build-state.ts';
import { digestOf, hexOf, type Digest } from '../../services/core/digest.ts';
import { openBlobDirectory, type Blobs } from '../../services/storage/blobs.ts';
import type { Database } from '../../services/storage/database.ts';
import { toJson } from '../../services/storage/json-text.ts';
import { blobStores } from '../machine/blob-stores.ts';
import { inEveryOrder } from '../machine/interleave.ts';
import { freshDirectory } from '../machine/make-source.ts';
import {
  addArtifact,
  addAsker,
  addBuild as addBuildTo,
  addKernel,
  addPackage,
  addSource,
  addToolchain,
} from '../machine/small-record.ts';
import { emptyRecord } from '../machine/small-record.ts';
import { debianKernel } from '../unit/samples.ts';

const DAY = 24 * 3_600_000;
const RELEASE = 'release';
const one = { token: 'one', role: 'client' } as const;

/** A record and its blobs. */
interface Scene {
  readonly db: Database;
  readonly blobs: Blobs;
  readonly directory: string;
  readonly now: () => number;
}

const stores = blobStores();
const records: Database[] = [];
afterAll(async () => {
  await stores.stop();
  for (const record of records) await record.destroy();
});

/** A source, a kernel and a toolchain are in it: rows without bytes. */
const recordOfOne = async (): Promise<Database> => {
  const db = await emptyRecord('collecting');
  await addSource(db, 'hello');
  await addKernel(db, RELEASE);
  await addToolchain(db, 'gcc');
  return db;
};

const scene = async (): Promise<Scene> => {
  const db = await recordOfOne();
  const directory = await freshDirectory('blobs');
  return { db, directory, blobs: await openBlobDirectory(directory), now: Date.now };
};

const bytes = (text: string): Readable => Readable.from([Buffer.from(text)]);

/** Stores bytes, that came so many days ago. */
const store = async ({ blobs, directory }: Scene, text: string, days: number): Promise<Digest> => {
  const { digest } = await blobs.put(bytes(text), { limit: 1000 });
  const at = new Date(Date.now() - days * DAY);
  const hex = hexOf(digest);
  await utimes(join(directory, hex.slice(0, 2), hex), at, at);
  return digest;
};

/** Gives `one` a claim. */
const addClaim = async ({ db }: Scene, blob: Digest): Promise<void> => {
  const claim = { token: one.token, claims: 1, claimed_at: Date.now() };
  await db
    .insertInto('uploads')
    .values({ blob, ...claim })
    .execute();
};

const isThere = async ({ blobs }: Scene, blob: Digest): Promise<boolean> =>
  (await blobs.find(blob)) !== null;

const collect = async (here: Scene, isDry = false): Promise<ReturnType<typeof summarise>> =>
  summarise(await collectFrom(here, { keepDays: 90, isDry }));

const addBuild = async (
  { db }: Scene,
  id: string,
  state: BuildState,
  days: number,
  log: Digest | null = null,
): Promise<void> => {
  const at = Date.now() - days * DAY;
  await addBuildTo(db, { id, state, created_at: at, finished_at: at });
  await addAsker(db, id, 'somebody');
  if (log !== null) await addArtifact(db, id, 'log', log);
};

describe('blobs that are collected', () => {
  let here: Scene;
  beforeEach(async () => {
    here = await scene();
    records.push(here.db);
  });

  it('are those that came over a day ago, that no record names and nobody is sending; a dry run only says so', async () => {
    const [old, recent] = [await store(here, 'old', 2), await store(here, 'recent', 0.9)];
    const claimed = await store(here, 'claimed', 2);
    await addClaim(here, claimed);
    const gone = { unnamed: { count: 1, bytes: 3 } };
    expect(await collect(here, true)).toEqual(gone);
    expect(await isThere(here, old)).toBe(true);
    expect(await collect(here)).toEqual(gone);
    expect(await isThere(here, old)).toBe(false);
    expect(await isThere(here, recent)).toBe(true);
    expect(await isThere(here, claimed)).toBe(true);
    expect(await collect(here)).toEqual({});
  });

  it('are none that a record names, wherever it does', async () => {
    await addBuild(here, 'build', 'succeeded', 400);
    const none = digestOf('nothing');
    await addArtifact(here.db, 'build', 'unsigned', none);
    await here.db
      .insertInto('toolchain_packages')
      .values({ toolchain: digestOf('gcc'), name: 'gcc', version: '1', blob: none })
      .execute();
    const repository = { format: 'deb', suite: 'own', channel: 'stable' } as const;
    const file = { path: 'Release', digest: none, size: 1 };
    await here.db
      .insertInto('index_files')
      .values({ ...repository, generation: 1, ...file })
      .execute();
    await addPackage(here.db, { digest: none, finished_at: Date.now() });
    const kept: Digest[] = [];
    for (const [table, column] of BLOB_COLUMNS) {
      const blob = await store(here, `${table} ${column}`, 400);
      kept.push(blob);
      // A toolchain's blob is what the build refers to it by.
      if (table === 'toolchains') await addToolchain(here.db, `${table} ${column}`);
      else
        await here.db
          .updateTable(table)
          .set({ [column]: blob })
          .execute();
    }
    const symvers = await store(here, 'symvers', 400);
    const record = toJson({ ...debianKernel, symversDigest: symvers });
    await here.db.updateTable('kernels').set({ record }).execute();
    await collect(here);
    for (const blob of [...kept, symvers]) expect(await isThere(here, blob)).toBe(true);
  });

  it('are those of packages that were packed 90 days ago, and that are in no repository', async () => {
    const days = (count: number): number => Date.now() - count * DAY;
    const old = await store(here, 'old', 91);
    const published = await store(here, 'published', 91);
    const recent = await store(here, 'recent', 89);
    const modules = { kind: 'modules', digest: old, finished_at: days(91) } as const;
    await addPackage(here.db, { ...modules, id: 'old' });
    // What all packages need stays.
    const common = await store(here, 'common', 91);
    await addPackage(here.db, { id: 'common', digest: common, finished_at: days(91) });
    await addPackage(here.db, { ...modules, id: 'published', digest: published });
    await addPackage(here.db, { id: 'recent', digest: recent, finished_at: days(89) });
    await here.db
      .insertInto('channel_packages')
      .values({ format: 'deb', suite: 'own', channel: 'stable', package: 'published', since: 1 })
      .execute();
    const gone = { packages: { count: 1, bytes: 0 }, forgotten: { count: 1, bytes: 3 } };
    expect(await collect(here, true)).toEqual(gone);
    expect(await collect(here)).toEqual(gone);
    expect(await collect(here)).toEqual({});
    const rows = await here.db
      .selectFrom('packages')
      .select(['id', 'state', 'digest', 'gone_digest'])
      .orderBy('id')
      .execute();
    expect(rows).toEqual([
      { id: 'common', state: 'made', digest: common, gone_digest: null },
      { id: 'old', state: 'gone', digest: null, gone_digest: old },
      { id: 'published', state: 'made', digest: published, gone_digest: null },
      { id: 'recent', state: 'made', digest: recent, gone_digest: null },
    ]);
    expect(await isThere(here, old)).toBe(false);
    expect(await isThere(here, published)).toBe(true);
  });

  it('are what builds left that failed or were cancelled 90 days ago, and no other build', async () => {
    const logs = new Map<string, Digest>();
    for (const [state, days] of [
      ['failed', 91],
      ['cancelled', 91],
      ['failed', 89],
      ['excluded', 91],
      ['succeeded', 91],
    ] as const) {
      const id = `${state} ${days}`;
      logs.set(id, await store(here, id, days));
      await addBuild(here, id, state, days, logs.get(id));
    }
    const shared = logs.get('succeeded 91') as Digest;
    await addBuild(here, 'same words', 'failed', 91, shared);
    const exports = await store(here, 'exports', 91);
    await addArtifact(here.db, 'failed 91', 'exports', exports);
    expect((await collect(here))['forgotten']).toEqual({ count: 3, bytes: 28 });
    const left = await here.db
      .selectFrom('artifacts')
      .select('build as id')
      .where('kind', '=', 'log')
      .execute();
    expect(left.map(({ id }) => id).sort()).toEqual(['excluded 91', 'failed 89', 'succeeded 91']);
    for (const [id, log] of logs)
      expect([id, await isThere(here, log)]).toEqual([id, left.some((row) => row.id === id)]);
    expect(await isThere(here, exports)).toBe(false);
  });

  it.each(['queued', 'building', 'signing'] as const)(
    'are none that came since a build was asked for that is %s: its report may be on the way',
    async (state) => {
      const [before, since] = [await store(here, 'before', 10), await store(here, 'since', 8)];
      await addBuild(here, 'build', state, 9);
      await collect(here);
      expect(await isThere(here, before)).toBe(false);
      expect(await isThere(here, since)).toBe(true);
    },
  );

  it('are none that came since a rebuild began', async () => {
    const since = await store(here, 'since', 8);
    await addBuild(here, 'build', 'succeeded', 20);
    const rebuild = { id: 'rebuild', build: 'build', builder: null, findings: toJson([]) };
    await here.db
      .insertInto('rebuilds')
      .values({ ...rebuild, state: 'running', created_at: Date.now() - 9 * DAY })
      .execute();
    await collect(here);
    expect(await isThere(here, since)).toBe(true);
    await here.db.updateTable('rebuilds').set({ state: 'failed' }).execute();
    await collect(here);
    expect(await isThere(here, since)).toBe(false);
  });

  it('are not what is stored anew at that very moment', async () => {
    for (let round = 0; round < 100; round += 1) {
      const blob = await store(here, 'again', 2);
      let removal: Promise<boolean> | undefined;
      // Just before it takes its place.
      const onHashed = async (): Promise<void> => {
        removal = here.blobs.removeOld(blob, Date.now() - DAY);
        for (let hops = round % 4; hops > 0; hops -= 1) await stat(here.directory);
      };
      await here.blobs.put(bytes('again'), { limit: 1000, onHashed });
      await removal;
      expect([round, await isThere(here, blob)]).toEqual([round, true]);
    }
  });
});

describe.each(stores.each)('a blob that goes from %s while', (_, open) => {
  /** All that came today came long ago, as the service tells the time: nobody can set back when an object came. */
  const longAgo = async (): Promise<Scene> => {
    const db = await recordOfOne();
    const { blobs } = await open();
    return { db, blobs, directory: '', now: () => Date.now() + 95 * DAY };
  };
  const storeIn = async ({ blobs }: Scene, text: string): Promise<Digest> =>
    (await blobs.put(bytes(text), { limit: 1000 })).digest;
  const text = 'wanted';
  const blob = digestOf(text);
  const ci = { token: 'ci', role: 'ci' } as const;
  /** Bytes that were stored long ago: the log of a build that failed, or what somebody has a claim on. */
  const asLog = async (): Promise<Scene> => {
    const here = await longAgo();
    const log = await storeIn(here, text);
    await addBuild(here, 'build', 'failed', 91, log);
    return here;
  };
  const asUpload = async (): Promise<Scene> => {
    const here = await longAgo();
    await storeIn(here, text);
    await addClaim(here, blob);
    return here;
  };
  const ways = [
    { prepare: asLog, remove: collect },
    { prepare: asUpload, remove: (here: Scene) => dropUpload(here, blob, one) },
  ];
  type Act = (here: Scene) => Promise<unknown>;
  /** Both ways round. */
  const mustStay = async (prepare: () => Promise<Scene>, remove: Act, act: Act): Promise<void> => {
    const both = async <A, B>(
      first: (here: Scene) => Promise<A>,
      second: (here: Scene) => Promise<B>,
      told: (both: { first: PromiseSettledResult<A>; second: PromiseSettledResult<B> }) => unknown,
    ) =>
      inEveryOrder({
        prepare,
        first,
        second,
        // Who is told that it is here, or that it was used, finds it.
        wrong: async (ended, here) =>
          Boolean(told(ended)) && !(await isThere(here, blob)) ? 'told, and it is gone' : null,
      });
    const valueOf = (end: PromiseSettledResult<unknown>): unknown =>
      end.status === 'fulfilled' ? end.value : null;
    expect(await both(act, remove, ({ first }) => valueOf(first))).toEqual([]);
    expect(await both(remove, act, ({ second }) => valueOf(second))).toEqual([]);
  };

  it('somebody who may know of it asks whether it is here stays, or is said not to be', async () => {
    await mustStay(asLog, collect, (here) => claimUpload(here, blob, ci));
    const drop: Act = (here) => dropUpload(here, blob, one);
    await mustStay(asUpload, drop, (here) => claimUpload(here, blob, one));
  });

  it.each(ways)('somebody sends it stays (way %#)', async ({ prepare, remove }) => {
    await mustStay(prepare, remove, (here) =>
      storeUpload(here, bytes(text), { limit: 1000 }, { token: 'other' }),
    );
  });

  it.each(ways)(
    'somebody makes a record of it stays, or there is no such record (way %#)',
    async ({ prepare, remove }) => {
      await mustStay(prepare, remove, (here) =>
        useUpload(here, blob, prepare === asLog ? ci : one, async () => {
          await here.blobs.read(blob, 1000);
          await here.db.updateTable('sources').set({ blob }).execute();
          return true;
        }),
      );
    },
  );

  it.each(ways)('a build reports it stays (way %#)', async ({ prepare, remove }) => {
    await mustStay(prepare, remove, (here) =>
      here.db.transaction().execute(async (on) => {
        if (!(await isThere(here, blob))) return false;
        await addArtifact(on, 'build', 'log', blob);
        return true;
      }),
    );
  });
});
