import { sql, type SelectQueryBuilder } from 'kysely';
import { KilnError } from '../../core/errors.ts';
import type { PageQuery } from '../../core/protocol/parts.ts';

/** A page of a list, and the place after which the next one goes on; `null` at the list's end. */
export interface Page<T> {
  readonly items: readonly T[];
  readonly next: string | null;
}

/** The order of a list: columns of a table, which the rows have, too. The columns together are each row's own. */
export interface Order {
  readonly table: string;
  readonly columns: readonly string[];
  readonly direction: 'asc' | 'desc';
}

/** Reads a page of what a query finds. Throws `bad-request` where the place is none in such a list. */
export const readPage = async <DB, TB extends keyof DB, Row extends object>(
  query: SelectQueryBuilder<DB, TB, Row>,
  { table, columns, direction }: Order,
  { after, limit }: PageQuery,
): Promise<Page<Row>> => {
  const refs = columns.map((column) => sql.ref(`${table}.${column}`));
  let page = query.limit(limit + 1);
  for (const ref of refs) page = page.orderBy(ref, direction);
  if (after !== undefined) {
    const place = sql.join(placeOf(after, columns));
    const beyond = sql.raw(direction === 'asc' ? '>' : '<');
    page = page.where(sql<boolean>`(${sql.join(refs)}) ${beyond} (${place})`);
  }
  const rows: readonly Row[] = await page.execute();
  const items = rows.slice(0, limit);
  const last = items.at(-1);
  return {
    items,
    next: last === undefined || rows.length === items.length ? null : nameOf(last, columns),
  };
};

/** A place in a list, as the wire has it: what the row has in the order's columns. */
const nameOf = (row: object, columns: readonly string[]): string => {
  const values = columns.map((column) => new Map(Object.entries(row)).get(column));
  return Buffer.from(JSON.stringify(values)).toString('base64url');
};

const placeOf = (name: string, columns: readonly string[]): readonly unknown[] => {
  const values = parsed(Buffer.from(name, 'base64url').toString('utf8'));
  const fits = (value: unknown, column: string | undefined): boolean =>
    typeof value === (column?.endsWith('_at') === true ? 'number' : 'string');
  if (
    Array.isArray(values) &&
    values.length === columns.length &&
    values.every((value, index) => fits(value, columns[index]))
  )
    return values;
  throw new KilnError('bad-request', 'after: no place in this list; give the `next` of a page');
};

const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
};
