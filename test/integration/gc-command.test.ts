import { stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { sql } from 'kysely';
import { keepCollecting } from '../../services/api/keep-collecting.ts';
import { hexOf } from '../../services/core/digest.ts';
import { lockData } from '../../services/machine/start-machine.ts';
import { openBlobDirectory } from '../../services/storage/blobs.ts';
import { openDatabase } from '../../services/storage/database.ts';
import { openLog } from '../../services/storage/log.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { KILND, NODE } from '../machine/places.ts';
import { run, type Ran } from '../machine/run.ts';
import { until } from '../machine/until.ts';
import { recordIn, recordSettings } from '../machine/record-place.ts';

/** Runs kilnd with the settings of the Kiln below a directory. */
const gc = async (data: string, ...args: string[]): Promise<Ran> => {
  const env = { PATH: process.env['PATH'], ...(await recordSettings(data)) };
  return run(NODE, [KILND, ...args, '--data', data], { env });
};

describe('kilnd gc', () => {
  let data: string;
  let blob: string;
  beforeEach(async () => {
    data = await freshDirectory('gc');
    await (await openDatabase(await recordIn(data))).destroy();
    const blobs = await openBlobDirectory(join(data, 'blobs'));
    const { digest } = await blobs.put(Readable.from([Buffer.from('abandoned')]), { limit: 100 });
    blob = join(data, 'blobs', hexOf(digest).slice(0, 2), hexOf(digest));
    const weekAgo = new Date(Date.now() - 7 * 24 * 3_600_000);
    await utimes(blob, weekAgo, weekAgo);
  });
  const isThere = async (): Promise<boolean> => (await stat(blob).catch(() => null)) !== null;

  it('says beside a running kilnd what would go, and removes it where none runs', async () => {
    const unlock = await lockData(data);
    try {
      expect(await gc(data, 'gc', '--dry-run')).toMatchObject({
        status: 0,
        stdout: expect.stringMatching(
          /^blob sha256:[0-9a-f]{64}, 9 bytes: bytes that no record names.*\n1 unnamed, 9 bytes: .*\n0 records and 1 blobs, 9 bytes: would be removed in all$/m,
        ),
      });
      expect(await gc(data, 'gc')).toMatchObject({
        status: 2,
        stderr: expect.stringMatching(/another kilnd runs on/),
      });
      expect(await isThere()).toBe(true);
    } finally {
      await unlock();
    }
    expect(await gc(data, 'gc')).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^0 records and 1 blobs, 9 bytes: removed in all$/m),
    });
    expect(await isThere()).toBe(false);
  });

  it('makes no Kiln where there is none', async () => {
    const empty = await freshDirectory('empty');
    for (const dry of [[], ['--dry-run']])
      expect(
        await run(NODE, [KILND, 'gc', '--data', join(empty, 'none'), ...dry], {
          env: { PATH: process.env['PATH'] },
        }),
      ).toMatchObject({
        status: 3,
        stderr: expect.stringMatching(/there is no .*kiln\.sqlite; name kilnd’s directory/),
      });
    expect(await stat(join(empty, 'none')).catch(() => null)).toBeNull();
  });

  it('leaves an older Kiln’s record as it is where it only looks', async () => {
    const db = await openDatabase(await recordIn(data));
    await sql`delete from kysely_migration where name > '007'`.execute(db);
    await db.destroy();
    expect(await gc(data, 'gc', '--dry-run')).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/was made by an older Kiln; start kilnd once/),
    });
  });

  it('refuses what has no effect', async () => {
    expect(await gc(data, '--dry-run')).toMatchObject({ status: 2 });
    expect(await gc(data, 'gc', '--quiet')).toMatchObject({ status: 2 });
  });

  it('is not needed where the service collects by itself, which a setting turns off', async () => {
    const db = await openDatabase(await recordIn(data));
    const blobs = await openBlobDirectory(join(data, 'blobs'));
    const deps = { db, blobs, now: Date.now };
    const start = (collectHours: number) =>
      keepCollecting(deps, { collectHours, keepDays: 90 }, openLog('api', 'silent'));
    await start(0).stop();
    expect(await isThere()).toBe(true);
    const collecting = start(24);
    await until('the blob goes', async () => !(await isThere()));
    await collecting.stop();
    await db.destroy();
  });
});
