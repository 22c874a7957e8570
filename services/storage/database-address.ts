import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { KilnError } from '../core/errors.ts';

/** A database on a PostgreSQL server. */
export interface DatabaseServer {
  /** As libpq takes it: `postgres://USER@HOST:PORT/NAME?sslmode=verify-full`, or `postgres://USER@%2FDIRECTORY/NAME` for a socket. */
  readonly url: string;
  readonly password?: string;
}

/** Where the record is: in a file, which one process may write, or on a server. */
export type DatabaseAddress = { readonly file: string } | DatabaseServer;

const SCHEME = /^[a-z]+:\/\//i;

/** The record of a Kiln that keeps all below a directory: a file there, or the server that its environment names (`KILN_DATABASE`). */
export const recordBelow = (data: string, environment: NodeJS.ProcessEnv): string => {
  const { KILN_DATABASE: given = '' } = environment;
  return SCHEME.test(given) ? given : join(data, 'kiln.sqlite');
};

/** Reads a file's path, or a server's URL, whose password is in a file. Throws `bad-request`. */
export const readDatabaseAddress = (text: string, passwordFile?: string): DatabaseAddress => {
  if (!SCHEME.test(text)) return { file: text };
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !['postgres:', 'postgresql:'].includes(url.protocol))
    throw new KilnError(
      'bad-request',
      'KILN_DATABASE is no address of a database; use postgres://USER@HOST:PORT/NAME, or a file',
    );
  // Whoever can list processes could read it.
  if (url.password !== '')
    throw new KilnError(
      'bad-request',
      'KILN_DATABASE has a password; put that into a file, and name it in KILN_DATABASE_PASSWORD_FILE',
    );
  if (url.pathname.length < 2)
    throw new KilnError(
      'bad-request',
      'KILN_DATABASE names no database; use postgres://USER@HOST:PORT/NAME',
    );
  return {
    url: text,
    ...(passwordFile === undefined ? {} : { password: readFileSync(passwordFile, 'utf8').trim() }),
  };
};
