import { readdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { fewHeaders } from '../machine/few-headers.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { freshDirectory, kbuildSource } from '../machine/make-source.ts';
import { KILND, NODE } from '../machine/places.ts';
import { startPostgres, type Postgres } from '../machine/postgres.ts';
import { bucketSettings, bucketStore } from '../machine/blob-stores.ts';
import { startS3Server, type S3Server } from '../machine/s3-server.ts';
import { settingsOf } from '../machine/record-place.ts';
import { run, type Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';

/** A Kiln is backed up, made again of that, and moved to a server. */

const shared = sharedKiln();
let kiln: KilnService;
let source: string;
let before: BuildView;
let backup: string;
let postgres: Postgres;
let server: S3Server;

const kilnd = (args: readonly string[], settings: NodeJS.ProcessEnv = {}): Promise<Ran> =>
  run(NODE, [KILND, ...args], { env: { PATH: process.env['PATH'], ...settings } });
const build = (service: KilnService): Promise<BuildView> =>
  service.json<BuildView>('build', source, '-k', shared.release);
const moduleOf = async (service: KilnService): Promise<Buffer> => {
  const directory = await freshDirectory('modules');
  await service.json('build', source, '-k', shared.release, '-o', directory);
  const [name = ''] = (await readdir(directory)).filter((each) => each.endsWith('.ko'));
  return readFile(join(directory, name));
};
/** Starts one on a directory, does something, and ends it. */
const onKiln = async <T>(
  data: string,
  settings: NodeJS.ProcessEnv,
  work: (service: KilnService) => Promise<T>,
): Promise<T> => {
  const service = await startKiln(data, { ...settings, KILN_LOG_LEVEL: 'warn' });
  try {
    return await work(service);
  } finally {
    await service.stop();
  }
};
/** The same build is there, with its modules and its log, and is not made again. */
const mustHaveAll = async (service: KilnService): Promise<void> => {
  const there = await build(service);
  expect(there).toMatchObject({
    id: before.id,
    createdAt: before.createdAt,
    finishedAt: expect.any(Number),
  });
  expect(there.modules.map(({ unsigned }) => unsigned)).toEqual(
    before.modules.map(({ unsigned }) => unsigned),
  );
  expect((await moduleOf(service)).length).toBeGreaterThan(1000);
  expect((await service.kiln('logs', before.id)).stdout).toMatch(/CC \[M\]/);
};

beforeAll(async () => {
  kiln = await startKiln(await freshDirectory('backed-up'), { KILN_LOG_LEVEL: 'warn' });
  await pinToolchain(kiln);
  await kiln.json('kernel', 'push', await fewHeaders(shared.release));
  source = await kbuildSource('kept');
  before = await build(kiln);
  backup = await freshDirectory('backup');
  [postgres, server] = await Promise.all([startPostgres(), startS3Server()]);
});
afterAll(async () => {
  await kiln.stop();
  await Promise.all([postgres.stop(), server.stop()]);
});

describe('kilnd backup', () => {
  it('writes all there is beside a kilnd that runs, and the next time only what is new', async () => {
    const first = await kilnd(['backup', backup, '--data', kiln.data]);
    expect([first.status, first.stdout]).toEqual([
      0,
      expect.stringMatching(
        /^[1-9]\d+ rows, ([5-9]|\d\d) blobs that were not there yet, \d+ bytes\n$/,
      ),
    ]);
    const again = await kilnd(['backup', backup, '--data', kiln.data]);
    expect(again.stdout).toMatch(/^\d+ rows, 0 blobs that were not there yet, 0 bytes$/m);
    expect((await stat(join(backup, 'record.jsonl.zst'))).mode & 0o777).toBe(0o600);
  });

  it('has no key and no secret in it', async () => {
    const { stdout } = await run('zstd', ['-dc', join(backup, 'record.jsonl.zst')]);
    expect(stdout).toContain('"table":"tokens"');
    expect(stdout).not.toContain(await kiln.adminToken());
    expect(stdout).not.toMatch(/PRIVATE KEY/);
    expect((await readdir(backup)).sort()).toEqual(['blobs', 'record.jsonl.zst']);
  });
});

describe('kilnd restore', () => {
  it('makes a Kiln of it that has all of that', async () => {
    const data = join(await freshDirectory('restored'), 'kiln');
    const { status, stderr } = await kilnd(['restore', backup, '--data', data]);
    expect([status, stderr]).toEqual([0, expect.stringMatching(/^record: \d+ rows$/m)]);
    await onKiln(data, {}, mustHaveAll);
  });

  it('refuses a Kiln that has something, what is no backup, and one that was cut', async () => {
    const there = await freshDirectory('there');
    await onKiln(there, {}, async () => {});
    expect(await kilnd(['restore', backup, '--data', there])).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/there is a record already/),
    });
    const nothing = await freshDirectory('nothing');
    expect(await kilnd(['restore', nothing, '--data', join(nothing, 'kiln')])).toMatchObject({
      status: 3,
      stderr: expect.stringMatching(
        /there is no .*record\.jsonl\.zst; name the directory of a backup/,
      ),
    });
    const bytes = await readFile(join(backup, 'record.jsonl.zst'));
    await writeFile(join(nothing, 'record.jsonl.zst'), bytes.subarray(0, bytes.length - 40));
    const cut = await kilnd(['restore', nothing, '--data', join(nothing, 'kiln')]);
    expect([cut.status, cut.stderr]).toEqual([
      2,
      expect.stringMatching(/this is not a whole record.*take another backup/),
    ]);
  });
});

describe('kilnd move', () => {
  it('takes a record from its file to a server and blobs from their directory to a bucket, with nothing lost', async () => {
    await kiln.stop();
    const { place } = await bucketStore(server);
    const settings = {
      ...(await settingsOf(kiln.data, await postgres.newDatabase())),
      ...(await bucketSettings(kiln.data, server, place)),
    };
    const { status, stdout, stderr } = await kilnd(['move', '--data', kiln.data], settings);
    expect([status, stdout, stderr]).toEqual([
      0,
      expect.stringMatching(/^[1-9]\d+ rows, ([5-9]|\d\d) blobs that were not there yet/),
      expect.any(String),
    ]);
    await rename(join(kiln.data, 'blobs'), join(kiln.data, 'blobs.before'));
    await onKiln(kiln.data, settings, mustHaveAll);
    // What goes on from the file would know nothing of what the other does.
    expect(await kilnd(['--data', kiln.data, '--listen', '127.0.0.1:0'])).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/the record was moved .*; set KILN_DATABASE to that/),
    });
    const again = await kilnd(['backup', backup, '--data', kiln.data], settings);
    expect([again.status, again.stdout]).toEqual([0, expect.stringMatching(/^[1-9]\d+ rows/)]);
  });

  it('says where to, and moves none that is in use', async () => {
    const data = await freshDirectory('in-use');
    await onKiln(data, {}, async () => {
      const settings = await settingsOf(data, await postgres.newDatabase());
      expect(await kilnd(['move', '--data', data], settings)).toMatchObject({
        status: 2,
        stderr: expect.stringMatching(/another kilnd runs on/),
      });
    });
    expect(await kilnd(['move', '--data', data])).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/KILN_DATABASE names no server; set it to postgres:/),
    });
  });
});
