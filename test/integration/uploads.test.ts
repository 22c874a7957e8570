import { Readable } from 'node:stream';
import { afterAll, beforeEach, describe, expect, it } from '@jest/globals';
import {
  CLAIM_TIME,
  claimUpload,
  dropUpload,
  endOldClaims,
  storeUpload,
  useUpload,
  type UploadDeps,
} from '../../services/api/record/uploads.ts';
import type { Digest } from '../../services/core/digest.ts';
import type { Database } from '../../services/storage/database.ts';
import { blobStores } from '../machine/blob-stores.ts';
import {
  addBuild,
  addKernel,
  addSource,
  addToolchain,
  emptyRecord,
} from '../machine/small-record.ts';

const one = { token: 'one', role: 'client' } as const;
const other = { token: 'other', role: 'client' } as const;
const admin = { token: 'admin', role: 'admin' } as const;

const stores = blobStores();
afterAll(() => stores.stop());

describe.each(stores.each)('bytes that were sent to %s', (_, open) => {
  const records: Database[] = [];
  let deps: UploadDeps;
  let time: number;
  beforeEach(async () => {
    time = 1_000_000;
    const db = await emptyRecord('uploads');
    records.push(db);
    const { blobs } = await open();
    deps = { db, blobs, now: () => time };
  });
  afterAll(async () => {
    for (const record of records) await record.destroy();
  });

  const send = async (text: string, by: string = one.token): Promise<Digest> => {
    const bytes = Readable.from([Buffer.from(text)]);
    return (await storeUpload(deps, bytes, { limit: 100 }, { token: by })).digest;
  };
  const isThere = async (blob: Digest): Promise<boolean> => (await deps.blobs.find(blob)) !== null;
  const later = async (milliseconds: number): Promise<void> => {
    time += milliseconds;
    await endOldClaims(deps);
  };
  const refuse = (): Promise<never> => Promise.reject(new Error('refused'));

  it('go when they are refused, unless another one sent them or was told that they are here', async () => {
    const blob = await send('wanted by four');
    await send('wanted by four', other.token);
    await claimUpload(deps, blob, one);
    await claimUpload(deps, blob, other);
    for (const by of [one, other, one]) {
      await expect(useUpload(deps, blob, by, refuse)).rejects.toThrow('refused');
      expect(await isThere(blob)).toBe(true);
    }
    await dropUpload(deps, blob, other);
    expect(await isThere(blob)).toBe(false);
  });

  it('are not taken from who is at work on them', async () => {
    const blob = await send('read twice');
    await useUpload(deps, blob, one, async () => {
      await expect(useUpload(deps, blob, one, refuse)).rejects.toThrow('refused');
      expect(await isThere(blob)).toBe(true);
    });
    expect(await isThere(blob)).toBe(false);
  });

  it('are nothing to who has not sent them, until a record of them is his to read', async () => {
    const blob = await send('one’s own');
    for (const by of [other, admin]) {
      expect(await claimUpload(deps, blob, by)).toBeNull();
      await expect(useUpload(deps, blob, by, async () => {})).rejects.toThrow(/of yours; PUT it/);
    }
    await addSource(deps.db, 'private');
    await deps.db.updateTable('sources').set({ blob, trust: 'client' }).execute();
    expect(await claimUpload(deps, blob, other)).toBeNull();
    expect(await claimUpload(deps, blob, admin)).toMatchObject({ digest: blob });
    await deps.db.updateTable('sources').set({ trust: 'ci' }).execute();
    expect(await claimUpload(deps, blob, other)).toMatchObject({ digest: blob });
  });

  it('stay past their last claim while a build is under way that was asked for before they came', async () => {
    await addSource(deps.db, 'hello');
    await addKernel(deps.db, 'release');
    await addToolchain(deps.db, 'gcc');
    await addBuild(deps.db, { id: 'before', state: 'building', created_at: 1 });
    // A builder has stored the same bytes, and not reported them yet.
    const blob = await send('a module');
    await dropUpload(deps, blob, one);
    await later(0);
    expect(await isThere(blob)).toBe(true);
    expect(await claimUpload(deps, blob, one)).toBeNull();
    await deps.db.updateTable('builds').set({ state: 'failed' }).execute();
    await addBuild(deps.db, { id: 'after', state: 'building', created_at: Date.now() + 10_000 });
    await later(0);
    expect(await isThere(blob)).toBe(false);
    expect(await deps.db.selectFrom('uploads').selectAll().execute()).toEqual([]);
  });

  it('go an hour after the last who sent them or asked for them, where nobody came back', async () => {
    const blob = await send('abandoned');
    await later(CLAIM_TIME);
    expect(await claimUpload(deps, blob, one)).toMatchObject({ digest: blob });
    await later(CLAIM_TIME);
    expect(await isThere(blob)).toBe(true);
    await later(1);
    expect(await isThere(blob)).toBe(false);
  });

  it('stay for good when a record names them', async () => {
    const used = await send('a source');
    await addSource(deps.db, 'recorded');
    await useUpload(deps, used, one, async () => {
      await deps.db.updateTable('sources').set({ blob: used }).execute();
    });
    await claimUpload(deps, used, one);
    await later(CLAIM_TIME + 1);
    expect(await isThere(used)).toBe(true);
    expect(await deps.db.selectFrom('uploads').selectAll().execute()).toEqual([]);
  });

  it('are nobody’s where they are not here, nor where they are not those announced', async () => {
    const announced: Digest = `sha256:${'a'.repeat(64)}`;
    expect(await claimUpload(deps, announced, one)).toBeNull();
    const bytes = Readable.from([Buffer.from('others')]);
    await expect(
      storeUpload(deps, bytes, { limit: 100, expected: announced }, one),
    ).rejects.toThrow(/send them again/);
    expect(await deps.db.selectFrom('uploads').selectAll().execute()).toEqual([]);
  });
});
