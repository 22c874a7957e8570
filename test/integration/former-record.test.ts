import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, it } from '@jest/globals';
import { buildViews } from '../../services/api/record/build-views.ts';
import { BuildView } from '../../services/core/protocol/build.ts';
import { openDatabase } from '../../services/storage/database.ts';
import { freshDirectory } from '../machine/make-source.ts';

const beside = (name: string): string => readFileSync(join(import.meta.dirname, name), 'utf8');

/** A record as the service left it when artifacts were columns of builds and modules, and its builds as it showed them then. */
const FORMER = beside('former-record.sql');
const BUILDS = JSON.parse(beside('former-builds.json')) as readonly BuildView[];

const formerRecord = async (change = ''): Promise<string> => {
  const file = join(await freshDirectory('former-record'), 'kiln.sqlite');
  const sqlite = new DatabaseSync(file);
  sqlite.exec(FORMER + change);
  sqlite.close();
  return file;
};

describe('a record of a former service', () => {
  it('shows its builds as it did: signed, unsigned, failed, excluded and queued', async () => {
    const db = await openDatabase({ file: await formerRecord() });
    const ids = BUILDS.map(({ id }) => id);
    const views = await buildViews(db, ids);
    expect(new Set(BUILDS.map(({ state }) => state))).toEqual(
      new Set(['succeeded', 'failed', 'excluded', 'queued']),
    );
    expect(views).toMatchObject(BUILDS);
    const exports = await db
      .selectFrom('artifacts')
      .select('build')
      .where('kind', '=', 'exports')
      .execute();
    expect(exports).toHaveLength(2);
    await db.destroy();
  });

  it('is as it was where bringing it up to date fails, and is brought up to date later', async () => {
    const broken = `UPDATE builds SET signature = '{' WHERE signature LIKE '%unsigned%';`;
    const file = await formerRecord(broken);
    await expect(openDatabase({ file: file })).rejects.toThrow(/JSON/);
    const sqlite = new DatabaseSync(file);
    expect(sqlite.prepare('SELECT signed FROM modules').all()).toHaveLength(3);
    sqlite.exec(`UPDATE builds SET signature = NULL WHERE signature = '{'`);
    sqlite.close();
    const db = await openDatabase({ file: file });
    expect(
      await buildViews(
        db,
        BUILDS.map(({ id }) => id),
      ),
    ).toHaveLength(BUILDS.length);
    await db.destroy();
  });
});
