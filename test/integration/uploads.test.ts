import { Readable } from 'node:stream';
import { afterAll, beforeEach, describe, expect, it } from '@jest/globals';
import {
  findUpload,
  noteUpload,
  removeOldUploads,
  storeUpload,
  UPLOAD_STAY,
  type UploadDeps,
} from '../../services/api/uploads.ts';
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

  const store = async (text: string): Promise<Digest> => {
    const { digest } = await storeUpload(deps, Readable.from([Buffer.from(text)]), { limit: 100 });
    return digest;
  };
  const isThere = async (blob: Digest): Promise<boolean> => (await deps.blobs.find(blob)) !== null;
  const later = async (milliseconds: number): Promise<void> => {
    time += milliseconds;
    await removeOldUploads(deps);
  };

  it('stay for an hour, and go when no record was made of them', async () => {
    const blob = await store('abandoned');
    await later(UPLOAD_STAY);
    expect(await isThere(blob)).toBe(true);
    await later(1);
    expect(await isThere(blob)).toBe(false);
    expect(await deps.db.selectFrom('uploads').selectAll().execute()).toEqual([]);
  });

  it('stay for an hour more for whoever asks whether they are here, sends them again or names them', async () => {
    const asks = await store('asked for');
    const again = await store('sent again');
    const named = await store('named');
    await later(UPLOAD_STAY - 1);
    expect(await findUpload(deps, asks)).toMatchObject({ digest: asks });
    expect(await store('sent again')).toBe(again);
    await noteUpload(deps, named);
    await later(UPLOAD_STAY - 1);
    expect(await Promise.all([asks, again, named].map(isThere))).toEqual([true, true, true]);
    await later(2);
    expect(await Promise.all([asks, again, named].map(isThere))).toEqual([false, false, false]);
  });

  it('stay for good when a record names them', async () => {
    const blob = await store('a source');
    await addSource(deps.db, 'recorded');
    await deps.db.updateTable('sources').set({ blob }).execute();
    await later(UPLOAD_STAY + 1);
    expect(await isThere(blob)).toBe(true);
    expect(await deps.db.selectFrom('uploads').selectAll().execute()).toEqual([]);
  });

  it('are not noted where they are not here, nor where they are not those announced', async () => {
    const announced: Digest = `sha256:${'a'.repeat(64)}`;
    expect(await findUpload(deps, announced)).toBeNull();
    const bytes = Readable.from([Buffer.from('others')]);
    await expect(storeUpload(deps, bytes, { limit: 100, expected: announced })).rejects.toThrow(
      /send them again/,
    );
    expect(await deps.db.selectFrom('uploads').selectAll().execute()).toEqual([]);
  });
});
