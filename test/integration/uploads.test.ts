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
import { openBlobDirectory } from '../../services/storage/blobs.ts';
import type { Database } from '../../services/storage/database.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { addSource, emptyRecord } from '../machine/small-record.ts';

describe('bytes that were sent', () => {
  const records: Database[] = [];
  let deps: UploadDeps;
  let time: number;
  beforeEach(async () => {
    time = 1_000_000;
    const db = await emptyRecord('uploads');
    records.push(db);
    const blobs = await openBlobDirectory(await freshDirectory('blobs'));
    deps = { db, blobs, now: () => time };
  });
  afterAll(async () => {
    for (const record of records) await record.destroy();
  });

  const send = async (text: string): Promise<Digest> => {
    const { digest } = await storeUpload(deps, Readable.from([Buffer.from(text)]), { limit: 100 });
    return digest;
  };
  const isThere = async (blob: Digest): Promise<boolean> => (await deps.blobs.find(blob)) !== null;
  const later = async (milliseconds: number): Promise<void> => {
    time += milliseconds;
    await endOldClaims(deps);
  };
  const refuse = (): Promise<never> => Promise.reject(new Error('refused'));

  it('go when they are refused, unless another one sent them or was told that they are here', async () => {
    const blob = await send('wanted by four');
    await send('wanted by four');
    await claimUpload(deps, blob);
    await claimUpload(deps, blob);
    for (let others = 3; others > 0; others -= 1) {
      await expect(useUpload(deps, blob, refuse)).rejects.toThrow('refused');
      expect(await isThere(blob)).toBe(true);
    }
    await dropUpload(deps, blob);
    expect(await isThere(blob)).toBe(false);
  });

  it('are not taken from who is at work on them', async () => {
    const blob = await send('read twice');
    await useUpload(deps, blob, async () => {
      // By somebody who did not ask before.
      await expect(useUpload(deps, blob, refuse)).rejects.toThrow('refused');
      expect(await isThere(blob)).toBe(true);
    });
    expect(await isThere(blob)).toBe(false);
  });

  it('go an hour after the last who sent them or asked for them, where nobody came back', async () => {
    const blob = await send('abandoned');
    await later(CLAIM_TIME);
    expect(await claimUpload(deps, blob)).toMatchObject({ digest: blob });
    await later(CLAIM_TIME);
    expect(await isThere(blob)).toBe(true);
    await later(1);
    expect(await isThere(blob)).toBe(false);
  });

  it('stay for good when a record names them', async () => {
    const used = await send('a source');
    await addSource(deps.db, 'recorded');
    await useUpload(deps, used, async () => {
      await deps.db.updateTable('sources').set({ blob: used }).execute();
    });
    await claimUpload(deps, used);
    await later(CLAIM_TIME + 1);
    expect(await isThere(used)).toBe(true);
    expect(await deps.db.selectFrom('uploads').selectAll().execute()).toEqual([]);
  });

  it('are nobody’s where they are not here, nor where they are not those announced', async () => {
    const announced: Digest = `sha256:${'a'.repeat(64)}`;
    expect(await claimUpload(deps, announced)).toBeNull();
    const bytes = Readable.from([Buffer.from('others')]);
    await expect(storeUpload(deps, bytes, { limit: 100, expected: announced })).rejects.toThrow(
      /send them again/,
    );
    expect(await deps.db.selectFrom('uploads').selectAll().execute()).toEqual([]);
  });
});
