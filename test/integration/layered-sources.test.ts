import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { noteRequest } from '../../services/api/coordinator/note-request.ts';
import {
  lookupsIn,
  resolveBuild,
  type Lookups,
  type ResolvedBuild,
} from '../../services/api/record/resolve-build.ts';
import { digestOf } from '../../services/core/digest.ts';
import { CreateBuild } from '../../services/core/protocol/build.ts';
import type { Database } from '../../services/storage/database.ts';
import {
  addKernel,
  addSource,
  addToolchain,
  countStatements,
  emptyRecord,
} from '../machine/small-record.ts';
import { refusal } from '../unit/samples.ts';

const RELEASE = '6.1.0-1-amd64';
const SCRIPT = digestOf('script');

const READER = { token: 'token', role: 'client' } as const;

describe('a source that is built against others', () => {
  let db: Database;
  beforeAll(async () => {
    db = await emptyRecord('layered');
    await addKernel(db, RELEASE);
    await addToolchain(db, 'gcc');
  });
  afterAll(() => db.destroy());

  const resolved = (name: string, record = db, lookups?: Lookups): Promise<ResolvedBuild> =>
    resolveBuild(
      CreateBuild.parse({ source: { name }, kernel: { release: RELEASE } }),
      SCRIPT,
      lookups ?? lookupsIn(record, READER),
    );

  it('is resolved and recorded at once, though 25 layers of two each depend on both of the next', async () => {
    const layers = Array.from({ length: 25 }, (_, layer) => [`left${layer}`, `right${layer}`]);
    for (const [layer, names] of layers.entries())
      for (const name of names) await addSource(db, name, layers[layer + 1] ?? []);
    await addSource(db, 'layered', layers[0]);
    const { counted, statements } = countStatements(db);
    const build = await resolved('layered', counted);
    const { row, needs } = await counted.transaction().execute((transaction) =>
      noteRequest(transaction, build, {
        caller: { token: 'token', role: 'ci', quotas: null },
        isBackground: false,
        now: 1,
      }),
    );
    // There are 51 builds, and 2 to the 25th ways through the layers.
    expect(statements()).toBeLessThan(10 * 51);
    const builds = await db.selectFrom('builds').select('id').execute();
    expect(builds).toHaveLength(51);
    expect([...needs, row].map(({ id }) => id).sort()).toEqual(builds.map(({ id }) => id).sort());
    const edges = await db.selectFrom('dependencies').select('needs').execute();
    expect(edges).toHaveLength(25 * 4 - 2);
  });

  it('has what it is built against made before it', async () => {
    await addSource(db, 'ground');
    await addSource(db, 'wall', ['ground']);
    await addSource(db, 'roof', ['ground', 'wall']);
    const build = await resolved('roof');
    const { needs } = await db.transaction().execute((transaction) =>
      noteRequest(transaction, build, {
        caller: { token: 'token', role: 'ci', quotas: null },
        isBackground: false,
        now: 1,
      }),
    );
    expect(needs.map(({ source }) => source)).toEqual([digestOf('ground'), digestOf('wall')]);
  });

  it('is refused where they depend on each other, naming those and no others', async () => {
    await addSource(db, 'outside', ['ring-a']);
    for (const [name, next] of ['ab', 'bc', 'ca'])
      await addSource(db, `ring-${name}`, [`ring-${next}`]);
    await expect(resolved('outside')).rejects.toEqual(
      refusal('bad-source', /without end: ring-a → ring-b → ring-c → ring-a; end it in/),
    );
  });

  it('is refused where they are more than 64, at once', async () => {
    const many = Array.from({ length: 65 }, (_, index) => `one-of-many${index}`);
    for (const name of many) await addSource(db, name);
    await addSource(db, 'greedy', many);
    await addSource(db, 'modest', many.slice(1));
    expect((await resolved('modest')).dependencies).toHaveLength(64);
    const lookups = lookupsIn(db, READER);
    for (let times = 0; times < 2; times += 1)
      await expect(resolved('greedy', db, lookups)).rejects.toEqual(
        refusal(
          'bad-source',
          /greedy\/1\.0 is built against more than 64 other sources.*BUILD_DEPENDS/,
        ),
      );
  });
});
