import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { SyncView } from '../../services/core/protocol/archive.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import type { RepositoriesView } from '../../services/core/protocol/repository.ts';
import { relayArchive, type ArchiveRelay } from '../machine/archive-relay.ts';
import { bucketSettings, bucketStore } from '../machine/blob-stores.ts';
import { containersOf } from '../machine/containers.ts';
import { debianPackage } from '../machine/debian.ts';
import { heldSource, letGo } from '../machine/held-build.ts';
import { startRoles, type KilnRoles } from '../machine/kiln-roles.ts';
import { pinToolchain } from '../machine/kiln-service.ts';
import { freshDirectory, kbuildSource } from '../machine/make-source.ts';
import { settingsOf } from '../machine/record-place.ts';
import { startS3Server, type S3Server } from '../machine/s3-server.ts';
import { psql, startPostgres, type Postgres } from '../machine/postgres.ts';
import type { DatabaseServer } from '../../services/storage/database-address.ts';
import { sharedKiln } from '../machine/shared.ts';
import { until } from '../machine/until.ts';

/** Two APIs behind a load balancer, on one record, with their blobs in a bucket: they are one service. */

const shared = sharedKiln();
let postgres: Postgres;
let record: DatabaseServer;
let server: S3Server;
let kiln: KilnRoles;
let archive: ArchiveRelay;

beforeAll(async () => {
  postgres = await startPostgres();
  record = await postgres.newDatabase();
  const data = await freshDirectory('roles');
  server = await startS3Server();
  const { place } = await bucketStore(server);
  kiln = await startRoles(data, {
    count: 2,
    settings: await bucketSettings(data, server, place),
    ofApis: await settingsOf(data, record),
  });
  await pinToolchain(kiln);
  await kiln.json('kernel', 'push', shared.headers);
  archive = await relayArchive('127.0.0.1');
});
afterAll(async () => {
  await archive.close();
  await kiln.stop();
  await Promise.all([postgres.stop(), server.stop()]);
});

const build = (source: string): Promise<BuildView> =>
  kiln.json<BuildView>('build', source, '-k', shared.release);
const count = async (statement: string): Promise<number> =>
  Number(await psql(record, `select count(*) from ${statement}`));

describe('two APIs', () => {
  it('make one build of what many ask for at once, and all get it', async () => {
    const source = await kbuildSource('asked_for_by_many');
    const all = await Promise.all(Array.from({ length: 12 }, () => build(source)));
    expect(new Set(all.map(({ id }) => id)).size).toBe(1);
    expect(all[0]).toMatchObject({ state: 'succeeded', attempt: 0, signature: { kind: 'signed' } });
    expect(await count('requests')).toBe(0);
  });

  it('make as many builds as are asked for, each once', async () => {
    const sources = await Promise.all(
      Array.from({ length: 8 }, (_, index) => kbuildSource(`one_of_many_${index}`)),
    );
    const all = await Promise.all(sources.map(build));
    expect(all.map(({ state, attempt }) => `${state} ${attempt}`)).toEqual(
      sources.map(() => 'succeeded 0'),
    );
    expect(kiln.output()).not.toMatch(/put back on its queue|changes nothing/);
  });

  it('lose nothing where one of them dies in the middle of a build', async () => {
    const built = build(await heldSource('survives'));
    await until('it is being built', async () => (await containersOf(kiln.data)).length > 0);
    const [first] = kiln.apis;
    if (first === undefined) throw new Error('there is no API');
    first.process.kill('SIGKILL');
    expect(await letGo(kiln.data, built)).toMatchObject({ state: 'succeeded', attempt: 0 });
    await kiln.restart(first);
  });

  it('follow an archive once, and each says how that stands', async () => {
    const file = join(await freshDirectory('sources'), 'archive.sources');
    await writeFile(file, archive.sources);
    const headers = String.raw`linux-headers-(?<release>6\.1\.0-\d+-(?<flavour>cloud-amd64))`;
    await kiln.json('archive', 'add', 'debian-12', '--sources', file, '--headers', headers);
    await kiln.json('source', 'push', await debianPackage('bbswitch-dkms'));
    const [one, other] = await Promise.all(
      [1, 2].map(() => kiln.json<SyncView>('kernel', 'sync', '--wait')),
    );
    expect(one).toEqual(other);
    expect(one).toMatchObject({ state: 'idle', kernels: [{ isNew: true }], problems: [] });
    expect(await count('archive_kernels')).toBe(1);
  });

  it('publish what is built in one repository', async () => {
    await kiln.json('repo', 'publish', 'bbswitch', '--to', 'stable');
    const isServed = async (): Promise<boolean> => {
      const { repositories } = await kiln.json<RepositoriesView>('repo', 'list');
      return (
        repositories.every(({ isCurrent }) => isCurrent) &&
        repositories.some(({ packages }) => packages.length > 0)
      );
    };
    await until('it is served', isServed);
    const generations = async (): Promise<string> =>
      psql(record, 'select generation, current from repositories');
    const before = await generations();
    await sleep(12_000);
    expect(await generations()).toBe(before);
  });
});
