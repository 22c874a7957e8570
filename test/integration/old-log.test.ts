import { describe, expect, it } from '@jest/globals';
import { removeOldRecords } from '../../services/api/record/old-records.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { openDatabase } from '../../services/storage/database.ts';
import { kbuildSource } from '../machine/make-source.ts';
import { sharedKiln } from '../machine/shared.ts';
import { until } from '../machine/until.ts';
import { recordIn } from '../machine/record-place.ts';

const kiln = sharedKiln();

describe('the log of a build that failed long ago', () => {
  it('is answered with a sentence once it went', async () => {
    const source = await kbuildSource('fails-for-good', '#error for good\n');
    const built = await kiln.kiln('build', source, '-k', kiln.kernel, '--json', '-q');
    const { id } = JSON.parse(built.stdout) as BuildView;
    expect((await kiln.kiln('logs', id)).stdout).toContain('for good');

    const db = await openDatabase(await recordIn(kiln.data));
    // The running service writes, too: SQLite lets one in at a time, and refuses whoever has read before another has written.
    await until('the record is free', async () => {
      try {
        await db.updateTable('builds').set({ finished_at: 1 }).where('id', '=', id).execute();
        await removeOldRecords(db, 2);
        return true;
      } catch (error) {
        if (!(error instanceof Error) || error.message !== 'database is locked') throw error;
        return false;
      }
    });
    await db.destroy();
    // Followers' pieces of it are kept for a minute.
    await until('nobody has it any more', async () => (await kiln.kiln('logs', id)).status !== 0);
    expect(await kiln.kiln('logs', id)).toMatchObject({
      status: 3,
      stdout: '',
      stderr: expect.stringContaining(
        `the log of build ${id} is not kept any more: it failed on 1970-01-01; kiln build --retry makes a new one`,
      ),
    });
  });
});
