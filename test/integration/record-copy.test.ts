import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { openDatabase, type Database } from '../../services/storage/database.ts';
import { readRecord, recordLines, TABLE_KEYS } from '../../services/storage/record-copy.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { startPostgres, type Postgres } from '../machine/postgres.ts';
import { addAsker, addKernel, addSource, addToolchain } from '../machine/small-record.ts';

/** The record goes from one database to another as lines. */

let postgres: Postgres;
let from: Database;
let lines: readonly string[];
const inFile = async (): Promise<Database> =>
  openDatabase({ file: join(await freshDirectory('record'), 'kiln.sqlite') });
const onServer = async (): Promise<Database> => openDatabase(await postgres.newDatabase());
const linesOf = async (db: Database): Promise<string[]> => {
  const all: string[] = [];
  for await (const line of recordLines(db)) all.push(line);
  return all;
};
const DAYS = 450;

beforeAll(async () => {
  postgres = await startPostgres();
  from = await inFile();
  await addKernel(from, '6.1.0-57-amd64');
  await addSource(from, 'first');
  await addToolchain(from, 'gcc', 3);
  // More than are read at once, in an order that differs by language.
  for (let day = 0; day < DAYS; day += 1)
    for (const token of ['A-b', 'a_b', 'ä'])
      await from
        .insertInto('sent')
        .values({ token, day, bytes: 2 ** 40 + day })
        .execute();
  lines = await linesOf(from);
});
afterAll(async () => {
  await from.destroy();
  await postgres.stop();
});

async function* given(all: readonly string[]): AsyncGenerator<string> {
  yield* all;
}

describe('a record as lines', () => {
  it('knows all tables, and what tells their rows apart', async () => {
    const tables = await from.introspection.getTables();
    const names = tables.map(({ name }) => name).filter((name) => name !== 'uploads');
    expect(Object.keys(TABLE_KEYS).sort()).toEqual(names.sort());
    expect(lines).toHaveLength(DAYS * 3 + 6);
  });

  it.each([
    ['a file', inFile],
    ['a server', onServer],
  ])('is the same record in %s', async (_where, make) => {
    const to = await make();
    expect(await readRecord(to, given(lines))).toBe(lines.length - 2);
    expect(await linesOf(to)).toEqual(lines);
    // Rows that hang on others are still refused where those are not there.
    await expect(addAsker(to, 'no build', 'a token')).rejects.toThrow(/foreign key/i);
    await to.destroy();
  });

  it.each<
    readonly [what: string, change: (all: readonly string[]) => readonly string[], why: RegExp]
  >([
    ['has no end', (all) => all.slice(0, -1), /not a whole record: its end is missing/],
    ['lacks a row', (all) => all.toSpliced(5, 1), /not a whole record: rows are missing/],
    ['goes on', (all) => [...all, '{}\n'], /something follows its last line/],
    ['has no beginning', (all) => all.slice(1), /its first line is another/],
    ['is no JSON', (all) => all.with(3, '{'), /a line is no JSON/],
    ['has a table of its own', (all) => all.with(3, '{"table":"x","row":{}}'), /is no row/],
    [
      'is of another version of Kiln',
      (all) => all.with(0, all[0]?.replace('001-fleet', '999-later') ?? ''),
      /another version of Kiln/,
    ],
  ])('is not read at all where it %s', async (_what, change, why) => {
    const to = await inFile();
    await expect(readRecord(to, given(change(lines)))).rejects.toThrow(why);
    expect((await linesOf(to)).at(-1)).toBe('{"rows":0}\n');
    await to.destroy();
  });

  it('is not read into one that has something', async () => {
    await expect(readRecord(from, given(lines))).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringMatching(/there is a record already/),
    });
  });
});
