import { PostgresDialect, type Dialect, type PostgresPool, type PostgresPoolClient } from 'kysely';
import { Pool, TypeOverrides, types, type PoolClient, type QueryResult } from 'pg';
import { KilnError } from '../core/errors.ts';
import type { DatabaseServer } from './database-address.ts';
import { codeOf, insisting } from './insisting.ts';

/** PostgreSQL, which several processes on several machines read and write. */

/** Connections that one process has at most. */
const CONNECTIONS = 10;
/** Milliseconds that a connection may take to come about. */
const PATIENCE = 10_000;

/** All statements see the database as if they were alone in it, as in the embedded one; who is dead holds nobody up. */
const SESSION = `set session characteristics as transaction isolation level serializable;
  set idle_in_transaction_session_timeout = '60s'`;

/** Numbers of 64 bits, and sums of them, which `pg` gives as text: times and sizes, far below 2^53. */
const NUMBERS = new TypeOverrides();
for (const type of [types.builtins.INT8, types.builtins.NUMERIC])
  NUMBERS.setTypeParser(type, Number);

/** The server's dialect. Nothing is connected before the first statement. */
export const serverDialect = (
  server: DatabaseServer,
  { isReadOnly }: { readonly isReadOnly: boolean },
): Dialect => {
  const pool = new Pool({
    connectionString: withPassword(server),
    max: CONNECTIONS,
    connectionTimeoutMillis: PATIENCE,
    keepAlive: true,
    application_name: 'kiln',
    ...(isReadOnly ? { options: '-c default_transaction_read_only=on' } : {}),
    types: NUMBERS,
  });
  // A connection that broke is replaced; whoever uses it is told by its next statement.
  pool.on('error', () => {});
  pool.on('connect', (client) => void client.on('error', () => {}));
  return new PostgresDialect({ pool: patient(pool) });
};

/** `pg` takes what an address does not say for empty, whatever else it is told. */
const withPassword = ({ url, password }: DatabaseServer): string => {
  const whole = new URL(url);
  if (password !== undefined) whole.password = encodeURIComponent(password);
  return whole.href;
};

/** The pool, with connections that say what is wrong as a `KilnError`, and whose single statements begin again where others got in their way. */
const patient = (pool: Pool): PostgresPool => {
  const known = new WeakMap<PoolClient, PostgresPoolClient>();
  const begin = async (client: PoolClient): Promise<PostgresPoolClient> => {
    try {
      await client.query(SESSION);
    } catch (error) {
      client.release(true);
      throw error;
    }
    const made = patientClient(client);
    known.set(client, made);
    return made;
  };
  return {
    options: pool.options,
    end: () => pool.end(),
    async connect() {
      try {
        const client = await pool.connect();
        return known.get(client) ?? (await begin(client));
      } catch (error) {
        throw asKilnError(error);
      }
    },
  };
};

const patientClient = (client: PoolClient): PostgresPoolClient => {
  const query = async (text: string, parameters: readonly unknown[]): Promise<QueryResult> => {
    const ask = (): Promise<QueryResult> => client.query(text, [...parameters]);
    const isAlone = client.getTransactionStatus() === 'I';
    try {
      return await (isAlone ? insisting(ask) : ask());
    } catch (error) {
      throw asKilnError(error);
    }
  };
  return {
    query: query as unknown as PostgresPoolClient['query'],
    release: (isBroken) => client.release(isBroken),
  };
};

/** Codes that say that the server is not there, goes, comes or has no room for one more: by system, and by the first two letters of SQL's. */
const AWAY = /^(ECONN|EPIPE|ENOENT|ENOTFOUND|EAI_AGAIN|EHOST|ENET|ETIMEDOUT|08|57P|532|53300)/;

const asKilnError = (error: unknown): unknown => {
  const code = codeOf(error);
  // `disk_full`
  if (code === '53100')
    return new KilnError(
      'storage-full',
      'the database has no room left; try again when the admin has made some',
      { cause: error },
    );
  // `read_only_sql_transaction`: a server that is about to take another's place.
  if (code === '25006')
    return new KilnError(
      'unavailable',
      'the database is read-only at present; try again in a moment',
      {
        cause: error,
        retryAfter: 5,
      },
    );
  // `invalid_authorization_specification`, `invalid_catalog_name`
  if (/^(28|3D)/.test(code))
    return new KilnError(
      'unavailable',
      'the database refuses this service; the admin looks at KILN_DATABASE and its password',
      { cause: error },
    );
  // `pg` gives connections that end no code.
  const words = error instanceof Error ? error.message : '';
  if (
    AWAY.test(code) ||
    /^(Connection terminated|timeout exceeded|Client has encountered a connection error)/.test(
      words,
    )
  )
    return new KilnError('unavailable', 'the database does not answer; try again in a moment', {
      cause: error,
      retryAfter: 5,
    });
  return error;
};
