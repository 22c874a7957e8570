import { sql } from 'kysely';
import { z } from 'zod';
import { KilnError } from '../core/errors.ts';
import { migrationsOf, type Database } from './database.ts';
import type { Schema } from './schema.ts';

/** The whole record as lines of JSON, which are the same whichever database it came from, and go into any. */

/** All tables with the columns that tell their rows apart, each behind those that its rows hang on; claims on uploads end by themselves. */
export const TABLE_KEYS: Readonly<Record<Exclude<keyof Schema, 'uploads'>, readonly string[]>> = {
  tokens: ['id'],
  sent: ['token', 'day'],
  sources: ['digest'],
  source_names: ['name', 'version'],
  source_owners: ['name'],
  kernels: ['digest'],
  toolchains: ['digest'],
  toolchain_packages: ['toolchain', 'name'],
  builds: ['id'],
  modules: ['build', 'name'],
  artifacts: ['build', 'kind', 'name', 'key'],
  signatures: ['build', 'key'],
  archives: ['name'],
  archive_kernels: ['origin'],
  archive_packages: ['digest'],
  archive_sources: ['package', 'source'],
  packages: ['id'],
  publications: ['source'],
  channel_packages: ['format', 'suite', 'channel', 'package'],
  repositories: ['format', 'suite', 'channel'],
  index_files: ['format', 'suite', 'channel', 'generation', 'path'],
  rebuilds: ['id'],
  dependencies: ['build', 'needs'],
  requests: ['id'],
  withdrawals: ['kind', 'id'],
  pushers: ['tree', 'token'],
  askers: ['build', 'token'],
  signers: ['key'],
  misses: ['reason', 'source', 'release'],
  syncs: ['name'],
};
type Table = keyof typeof TABLE_KEYS;
const TABLES = Object.keys(TABLE_KEYS) as readonly Table[];
const ROWS_AT_ONCE = 200;

/** The first line: what it is, and of which state of the schema. */
const Head = z.strictObject({ kiln: z.literal('record'), migrations: z.array(z.string()) });
/** The last line: how many rows came before it. */
const End = z.strictObject({ rows: z.number() });
const Line = z.strictObject({
  table: z.enum(TABLES),
  row: z.record(z.string(), z.union([z.string(), z.number(), z.null()])),
});

/** The record, line by line, each with its end: as it is at one moment where `on` is a transaction. */
export async function* recordLines(on: Database): AsyncGenerator<string> {
  yield `${JSON.stringify({ kiln: 'record', migrations: await migrationsOf(on) })}\n`;
  let rows = 0;
  for (const table of TABLES) {
    for await (const row of rowsOf(on, table)) {
      yield `${JSON.stringify({ table, row })}\n`;
      rows += 1;
    }
  }
  yield `${JSON.stringify({ rows })}\n`;
}

type Row = Readonly<Record<string, unknown>>;

/** A table's rows by their keys, some at a time. */
async function* rowsOf(on: Database, table: Table): AsyncGenerator<Row> {
  let last: Row | null = null;
  do {
    const rows: readonly Row[] = await pageAfter(on, table, last);
    yield* rows;
    last = rows.at(-1) ?? null;
  } while (last !== null);
}

const pageAfter = async (on: Database, table: Table, last: Row | null): Promise<readonly Row[]> => {
  const columns = TABLE_KEYS[table];
  const key = sql.join(columns.map((column) => sql.ref(column)));
  const place = last === null ? [] : columns.map((column) => last[column]);
  const beyond = last === null ? sql`` : sql`where (${key}) > (${sql.join(place)})`;
  const page = sql<Row>`
    select * from ${sql.table(table)} ${beyond} order by ${key} limit ${ROWS_AT_ONCE}`;
  return (await page.execute(on)).rows;
};

/**
 * Puts a record's lines into an empty one: all of them, or nothing; how many rows. Throws `conflict` where there is something already, or
 * where the lines are of another version of Kiln, and `bad-request` where they are not a whole record.
 */
export const readRecord = (db: Database, lines: AsyncIterable<string>): Promise<number> =>
  db.transaction().execute(async (on) => {
    await mustBeEmpty(on);
    let isBegun = false;
    let rows = 0;
    let said: number | null = null;
    for await (const text of lines) {
      if (text === '') continue;
      if (said !== null) throw notWhole('something follows its last line');
      const value = parsed(text);
      if (!isBegun) {
        await mustFit(on, value);
        isBegun = true;
        continue;
      }
      const end = End.safeParse(value);
      if (end.success) {
        said = end.data.rows;
        continue;
      }
      const line = Line.safeParse(value);
      if (!line.success) throw notWhole(`line ${rows + 2} is no row`);
      await insert(on, line.data);
      rows += 1;
    }
    if (said !== rows) throw notWhole(said === null ? 'its end is missing' : 'rows are missing');
    return rows;
  });

const insert = async (on: Database, { table, row }: z.infer<typeof Line>): Promise<void> => {
  const columns = Object.keys(row);
  await sql`insert into ${sql.table(table)} (${sql.join(columns.map((column) => sql.ref(column)))})
    values (${sql.join(columns.map((column) => row[column]))})`.execute(on);
};

/** Throws `conflict` where a record has something. */
export const mustBeEmpty = async (on: Database): Promise<void> => {
  for (const table of TABLES) {
    const { rows } = await sql`select 1 from ${sql.table(table)} limit 1`.execute(on);
    if (rows.length > 0)
      throw new KilnError(
        'conflict',
        `there is a record already (in ${table}); give an empty database`,
      );
  }
};

const mustFit = async (on: Database, value: unknown): Promise<void> => {
  const head = Head.safeParse(value);
  if (!head.success) throw notWhole('its first line is another');
  const own = await migrationsOf(on);
  if (own.join() === head.data.migrations.join()) return;
  throw new KilnError(
    'conflict',
    `the record is one of another version of Kiln (${head.data.migrations.at(-1)}, here ${own.at(-1)}); read it with that version, start it there once, and go on from there`,
  );
};

const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw notWhole('a line is no JSON', error);
  }
};

/** The refusal of what is no whole record. */
export const notWhole = (why: string, cause?: unknown): KilnError =>
  new KilnError('bad-request', `this is not a whole record: ${why}; take another backup`, {
    cause,
  });
