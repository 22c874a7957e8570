import { join } from 'node:path';
import type { DatabaseAddress } from '../../services/storage/database-address.ts';
import { freshDirectory } from './make-source.ts';
import type { Postgres } from './postgres.ts';

/** Where a record may be, by its name, and a new place of that kind: for tests that hold for both. */
export const recordKinds = (
  postgres: () => Postgres,
): readonly (readonly [kind: string, newPlace: () => Promise<DatabaseAddress>])[] => [
  ['a file', async () => ({ file: join(await freshDirectory('record'), 'kiln.sqlite') })],
  ['PostgreSQL', () => postgres().newDatabase()],
];
