import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { link, readFile, rm, writeFile } from 'node:fs/promises';
import { KilnError } from '../../core/errors.ts';
import { roleReaches, type Role } from '../../core/policy/policy.ts';
import { quotasOf, type OwnQuotas, type Quotas } from '../../core/policy/quotas.ts';
import type { IssuedToken, TokenView } from '../../core/protocol/token.ts';
import type { PageQuery } from '../../core/protocol/parts.ts';
import type { Database } from '../../storage/database.ts';
import type { RecordMemory } from '../../storage/record-memory.ts';
import type { Schema } from '../../storage/schema.ts';
import { fromJson, toJson } from '../../storage/json-text.ts';
import { findMakers, makerIn, type Makers } from './makers.ts';
import { readPage, type Page } from './pages.ts';
import type { Reader } from './readers.ts';

/** Who asks something of the service. */
export interface Caller extends Reader {
  /** How much it may have at once; `null`: any amount, as a part of the service itself. */
  readonly quotas: Quotas | null;
}

const DAY = 24 * 3600 * 1000;

const hashOf = (secret: string): string => createHash('sha256').update(secret).digest('hex');

const quotasIn = ({ role, quotas }: Schema['tokens']): Quotas => quotasOf(role, fromJson(quotas));

const viewOf = (row: Schema['tokens'], makers: Makers): TokenView => ({
  id: row.id,
  name: row.name,
  role: row.role,
  quotas: quotasIn(row),
  names: fromJson(row.names),
  madeBy: makerIn(makers, row.made_by),
  expiresAt: row.expires_at,
  revokedAt: row.revoked_at,
});

/** Makes a token. Its secret (256 random bits) is in the answer and nowhere else: SQL has its hash. */
export const issueToken = async (
  db: Database,
  now: number,
  wanted: {
    name: string;
    role: Role;
    days: number;
    names: readonly string[];
    quotas: OwnQuotas;
  },
  madeBy: string,
): Promise<IssuedToken> => {
  const secret = `kiln_${wanted.role}_${randomBytes(32).toString('base64url')}`;
  const row = {
    id: randomUUID(),
    name: wanted.name,
    role: wanted.role,
    hash: hashOf(secret),
    names: toJson(wanted.names),
    made_by: madeBy,
    expires_at: now + wanted.days * DAY,
    revoked_at: null,
    quotas: toJson(wanted.quotas),
    created_at: now,
  };
  await db.insertInto('tokens').values(row).execute();
  return { ...viewOf(row, await findMakers(db, [madeBy])), secret };
};

/** Tokens without secrets, the oldest first. */
export const listTokens = async (db: Database, wanted: PageQuery): Promise<Page<TokenView>> => {
  const { items, next } = await readPage(
    db.selectFrom('tokens').selectAll(),
    { table: 'tokens', columns: ['created_at', 'id'], direction: 'asc' },
    wanted,
  );
  const makers = await findMakers(
    db,
    items.map(({ made_by }) => made_by),
  );
  return { items: items.map((row) => viewOf(row, makers)), next };
};

/** Ends a token at once, if it has not ended. Throws `not-found`. */
export const revokeToken = async (db: Database, now: number, id: string): Promise<void> => {
  const token = await db.selectFrom('tokens').select('id').where('id', '=', id).executeTakeFirst();
  if (token === undefined)
    throw new KilnError('not-found', `there is no token ${id}; kiln token list shows them`);
  await db
    .updateTable('tokens')
    .set({ revoked_at: now })
    .where('id', '=', id)
    .where('revoked_at', 'is', null)
    .execute();
};

/** Who an `Authorization` header speaks for. Throws `unauthenticated` or `forbidden` with what to do. */
export const authenticate = async (
  db: Database,
  now: number,
  header: string | undefined,
  needed: Role,
  memory?: RecordMemory,
): Promise<Caller> => {
  const secret = /^Bearer ([\x21-\x7e]{1,200})$/.exec(header ?? '')?.[1];
  if (secret === undefined) {
    throw new KilnError(
      'unauthenticated',
      'this needs a token (Authorization: Bearer …); an admin makes one with kiln token create',
    );
  }
  const hash = hashOf(secret);
  const find = () =>
    db.selectFrom('tokens').selectAll().where('hash', '=', hash).executeTakeFirst();
  const row = await (memory === undefined
    ? find()
    : memory.recall(`token ${hash}`, async () => {
        const value = await find();
        return value === undefined ? null : { value, until: value.expires_at };
      }));
  if (row === undefined || row === null || row.revoked_at !== null || row.expires_at <= now) {
    throw new KilnError(
      'unauthenticated',
      'the token is unknown, expired or revoked; an admin makes a new one with kiln token create',
    );
  }
  mustReach(row.role, needed);
  return { token: row.id, role: row.role, quotas: quotasIn(row) };
};

/** Throws `forbidden` where a role is not enough. */
export const mustReach = (role: Role, needed: Role): void => {
  if (!roleReaches(role, needed))
    throw new KilnError(
      'forbidden',
      `this needs a token with the role ${needed}; this one’s is ${role}`,
    );
};

/** Makes sure that a file holds a valid admin token, for the machine's own admin. The file is private from its first byte. */
export const provideAdminToken = async (db: Database, now: number, file: string): Promise<void> => {
  const there = (await readFile(file, 'utf8').catch(() => '')).trim();
  const isValid = await authenticate(db, now, `Bearer ${there}`, 'admin').then(
    () => true,
    () => false,
  );
  if (isValid) return;
  const { secret } = await issueToken(
    db,
    now,
    { name: 'machine admin', role: 'admin', days: 3650, names: [], quotas: {} },
    'kilnd',
  );
  const arrival = `${file}.${process.pid}`;
  await writeFile(arrival, `${secret}\n`, { mode: 0o600 });
  await rm(file, { force: true });
  await link(arrival, file);
  await rm(arrival);
};
