import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { BuildView } from '../../services/core/protocol/build.ts';
import type { DatabaseServer } from '../../services/storage/database-address.ts';
import { containersOf } from '../machine/containers.ts';
import { heldSource, letGo } from '../machine/held-build.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { psql, startPostgres, type Postgres } from '../machine/postgres.ts';
import { settingsOf } from '../machine/record-place.ts';
import { sharedKiln } from '../machine/shared.ts';
import { until } from '../machine/until.ts';

/** A Kiln whose record is on a PostgreSQL server. */

const shared = sharedKiln();
let postgres: Postgres;
let record: DatabaseServer;
let data: string;
let kiln: KilnService;

const start = async (): Promise<KilnService> =>
  startKiln(data, { ...(await settingsOf(data, record)), KILN_LOG_LEVEL: 'warn' });

beforeAll(async () => {
  postgres = await startPostgres();
  record = await postgres.newDatabase();
  data = await freshDirectory('on-server');
  kiln = await start();
  await pinToolchain(kiln);
  await kiln.json('kernel', 'push', shared.headers);
});
afterAll(async () => {
  await kiln.stop();
  await postgres.stop();
});

const build = (source: string): Promise<BuildView> =>
  kiln.json<BuildView>('build', source, '-k', shared.release);
const isBuilding = async (): Promise<boolean> => {
  const builds = await psql(record, `select count(*) from builds where state = 'building'`);
  return Number(builds) > 0 && (await containersOf(data)).length > 0;
};

describe('a Kiln with its record on a server', () => {
  it('makes what one makes that has it in a file', async () => {
    const there = await build(shared.source);
    const here = await shared.json<BuildView>('build', 'v4l2loopback', '-k', shared.release);
    expect(there).toMatchObject({ state: 'succeeded', signature: { kind: 'signed' } });
    expect(there.modules[0]?.unsigned).toBe(here.modules[0]?.unsigned);
    await expect(readFile(join(data, 'kiln.sqlite'))).rejects.toThrow(/ENOENT/);
  });

  it('loses nothing where the server dies in the middle of a build, and comes back', async () => {
    const built = build(await heldSource('outlasting'));
    await until('it is being built', isBuilding);
    await postgres.stop(true);
    const { status, stderr } = await kiln.kiln('list', '--patience', '0');
    expect([status, stderr]).toEqual([
      5,
      expect.stringMatching(/the database does not answer; try again in a moment/),
    ]);
    // The builder has finished before the server is back.
    await letGo(
      data,
      until('its container has gone', async () => (await containersOf(data)).length === 0),
    );
    await postgres.start();
    expect(await built).toMatchObject({ state: 'succeeded', attempt: 0 });
    expect(kiln.output()).not.toMatch(/put back on its queue/);
  });

  it('goes on with it after it was started again', async () => {
    const built = build(await heldSource('restarted'));
    built.catch(() => {});
    await until('it is being built', isBuilding);
    await kiln.stop();
    kiln = await start();
    const list = await kiln.json<readonly BuildView[]>('list');
    expect(list.map(({ source }) => source.name)).toEqual([
      'restarted',
      'outlasting',
      'v4l2loopback',
    ]);
    const [{ id } = { id: '' }] = list;
    const ended = async (): Promise<boolean> =>
      (await kiln.json<BuildView>('show', id)).state === 'succeeded';
    await letGo(data, until('it is built', ended));
  });

  it('is refused a password in the address, which others could read', async () => {
    const url = new URL(record.url);
    url.password = 'secret';
    const other = await freshDirectory('refused');
    await expect(startKiln(other, { KILN_DATABASE: url.href })).rejects.toThrow(
      /KILN_DATABASE has a password; put that into a file, and name it in KILN_DATABASE_PASSWORD_FILE/,
    );
  });
});
