import { afterAll, beforeEach, describe, expect, it } from '@jest/globals';
import { digestOf, type Digest } from '../../services/core/digest.ts';
import { CreateBuild, type BuildTicket } from '../../services/core/protocol/build.ts';
import type { Database } from '../../services/storage/database.ts';
import { fromJson, toJson } from '../../services/storage/json-text.ts';
import {
  addKernel,
  addSource,
  addToolchain,
  emptyRecord,
  someRecipe,
} from '../machine/small-record.ts';
import { stillCoordinator, type StillCoordinator } from '../machine/still-coordinator.ts';

const RELEASE = '6.1.0-1-amd64';

describe('what is withdrawn', () => {
  const records: Database[] = [];
  let db: Database;
  let coordinator: StillCoordinator;
  beforeEach(async () => {
    db = await emptyRecord('withdrawing');
    records.push(db);
    await addKernel(db, RELEASE);
    await addToolchain(db, 'gcc');
    await addSource(db, 'ground');
    await addSource(db, 'wall', ['ground']);
    coordinator = stillCoordinator(db);
  });
  afterAll(async () => {
    for (const record of records) await record.destroy();
  });

  const ask = (name: string): Promise<BuildTicket> =>
    coordinator.request(CreateBuild.parse({ source: { name }, kernel: { release: RELEASE } }), {
      token: 'token',
      role: 'admin',
      quotas: null,
    });
  const withdraw = (kind: 'source' | 'kernel' | 'toolchain' | 'build' | 'signer', id: string) =>
    coordinator.withdraw({ kind, id, reason: 'bad' }, 'admin');
  const states = async (): Promise<readonly string[]> =>
    (await db.selectFrom('builds').select('state').execute()).map(({ state }) => state);
  /** A second record of the same kernel, pushed later or earlier than the first. */
  const addOther = async (digest: Digest): Promise<void> => {
    const row = await db.selectFrom('kernels').selectAll().executeTakeFirstOrThrow();
    const record = toJson({ ...fromJson(row.record), digest });
    await db
      .insertInto('kernels')
      .values({ ...row, digest, record, created_at: 0 })
      .execute();
  };

  it.each(['source', 'kernel', 'toolchain'] as const)(
    'as a %s is given to nobody, and ends what is being built of it, and what waits for that',
    async (kind) => {
      const name = { source: 'ground', kernel: RELEASE, toolchain: 'gcc' }[kind];
      await ask('wall');
      expect(await states()).toEqual(['queued', 'queued']);
      await withdraw(kind, digestOf(name));
      expect((await states()).filter((state) => state === 'queued')).toEqual([]);
      expect(coordinator.builder.jobs.size).toBe(0);
      await expect(ask('wall')).rejects.toMatchObject({
        code: kind === 'toolchain' ? 'no-toolchain' : 'withdrawn',
      });
    },
  );

  it('as a kernel is followed by other headers of the same kernel', async () => {
    await addOther(digestOf('other headers'));
    expect((await ask('ground')).build.kernel.digest).toBe(digestOf(RELEASE));
    await withdraw('kernel', digestOf(RELEASE));
    expect((await ask('ground')).build.kernel.digest).toBe(digestOf('other headers'));
  });

  /** Has a build end well, signed with a key. */
  const signedWith = async (id: string, key: string): Promise<void> => {
    await db
      .updateTable('builds')
      .set({ state: 'succeeded', recipe: someRecipe })
      .where('id', '=', id)
      .execute();
    const signature = { build: id, key, hash: 'sha256', created_at: 1 };
    await db.insertInto('signatures').values(signature).execute();
  };

  it('as a signer gives nothing that it signed, and what it signs is refused', async () => {
    const { build } = await ask('ground');
    await db.insertInto('signers').values({ key: 'key', certificate: 'x', seen_at: 1 }).execute();
    await signedWith(build.id, 'key');
    expect(await ask('ground')).toMatchObject({ cached: true, build: { withdrawn: null } });
    await withdraw('signer', 'key');
    expect(await ask('ground')).toMatchObject({ cached: false, build: { state: 'signing' } });
    await coordinator.signed(signedOutcome(build.id));
    const { state, failure } = (await db.selectFrom('builds').selectAll().execute())[0] ?? {};
    expect({ state, failure }).toEqual({
      state: 'failed',
      failure: expect.stringMatching(/withdrawn.*another key/),
    });
  });

  it('is signed again where the service has another key by now', async () => {
    const { build } = await ask('ground');
    await signedWith(build.id, 'old');
    expect(await ask('ground')).toMatchObject({ cached: false, build: { state: 'signing' } });
    await coordinator.signed(signedOutcome(build.id));
    expect(await ask('ground')).toMatchObject({
      cached: true,
      build: { withdrawn: null, signature: { kind: 'signed', key: 'key' } },
    });
  });
});

/** What a signer reports of a build without modules. */
const signedOutcome = (build: string) => ({
  kind: 'signed' as const,
  build,
  attempt: 0,
  modules: [],
  attestation: digestOf('attestation'),
});
