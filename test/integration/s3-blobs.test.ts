import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { hexOf } from '../../services/core/digest.ts';
import type { BlobPlace, S3Place } from '../../services/storage/blob-place.ts';
import { openBlobs } from '../../services/storage/open-blobs.ts';
import { bucketStore, freshBucket, putBytes } from '../machine/blob-stores.ts';
import { freePort, startMute, startRelay } from '../machine/faulty-network.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { CHECKOUT, NODE } from '../machine/places.ts';
import { mustRun, run, type Ran } from '../machine/run.ts';
import { startS3Server, type S3Server } from '../machine/s3-server.ts';
import { refusal } from '../unit/samples.ts';

/** Blobs in a bucket, where the server, the way to it or the settings are not as they should be. */

const MiB = 1024 ** 2;
let server: S3Server;
beforeAll(async () => {
  server = await startS3Server();
});
afterAll(() => server.stop());

describe('a bucket that cannot be used', () => {
  let place: S3Place;
  beforeAll(async () => {
    place = await freshBucket(server);
  });
  /** What is said of it, and nothing more: neither the secret nor what was signed. */
  const mustSay = async (settings: Partial<S3Place>, words: RegExp): Promise<void> => {
    const error: unknown = await openBlobs({ ...place, ...settings }).catch((known) => known);
    expect(error).toEqual(refusal('unavailable', words));
    const all = inspect(error, { depth: 9, showHidden: true });
    expect(all).not.toContain(settings.secret ?? place.secret);
    expect(all).not.toMatch(/AWS4-HMAC|StringToSign|\$metadata/);
  };

  it('is said to be, in one sentence that names what to set', async () => {
    await mustSay({ bucket: 'there-is-none' }, /bucket is not there.*KILN_BLOBS/);
    await mustSay({ secret: 'another-secret' }, /KILN_S3_KEY_ID and KILN_S3_SECRET_FILE/);
    await mustSay({ keyId: 'another-key' }, /KILN_S3_KEY_ID and KILN_S3_SECRET_FILE/);
    const nobody = `http://127.0.0.1:${await freePort()}`;
    await mustSay({ endpoint: nobody }, /cannot be reached.*KILN_S3_ENDPOINT/);
    await mustSay({ endpoint: server.endpoint.replace('http:', 'https:') }, /certificate/);
  });

  it('is said to be where the key is somebody else’s', async () => {
    const other = { keyId: 'OTHERKEY', secret: 'other-secret-0123456789' };
    const named = ['--uid', 'other', '--display-name', 'other'];
    const key = ['--access-key', other.keyId, '--secret-key', other.secret];
    await server.admin('user', 'create', ...named, ...key);
    await mustSay(other, /refuses the service’s key.*list the bucket, and get, put and delete/);
  });

  it('is said to be where no S3 server answers', async () => {
    const site = createServer((_, answer) => answer.end('<!doctype html><p>Welcome'));
    site.listen(0, '127.0.0.1');
    await once(site, 'listening');
    const { port } = site.address() as AddressInfo;
    await mustSay({ endpoint: `http://127.0.0.1:${port}` }, /does not understand/);
    site.close();
  });

  it('is given up where the server says nothing', async () => {
    const mute = await startMute();
    const endpoint = `http://127.0.0.1:${mute.port}`;
    await mustSay({ endpoint, patience: 500 }, /was silent for 0\.5 seconds/);
    await mute.close();
  });

  it('is not looked for where bytes cannot wait for it', async () => {
    const spool = join(await freshDirectory('spool'), 'none');
    await expect(openBlobs({ ...place, spool })).rejects.toThrow(
      refusal('bad-request', /^setting KILN_SPOOL: .* is not a directory that can be written$/),
    );
  });
});

describe('a server that refuses', () => {
  it('bytes that were changed on the way has nothing of them afterwards', async () => {
    const { place, names } = await bucketStore(server);
    const changer = await startRelay(server.endpoint, 0, (piece) =>
      piece.includes('as it was')
        ? Buffer.from(piece.toString('latin1').replace('was', 'is!'))
        : piece,
    );
    const blobs = await openBlobs({ ...place, endpoint: changer.url });
    await expect(putBytes(blobs, 'as it was')).rejects.toThrow(
      refusal('unavailable', /changed on their way/),
    );
    expect(await names()).toEqual([]);
    await changer.close();
  });

  it('more than its owner may store says so, and has the blobs that were there', async () => {
    const poor = { keyId: 'POORKEY', secret: 'poor-secret-0123456789' };
    const named = ['--uid', 'poor', '--display-name', 'poor'];
    const key = ['--access-key', poor.keyId, '--secret-key', poor.secret];
    await server.admin('user', 'create', ...named, ...key);
    const store = await bucketStore(server);
    const owner = ['--uid', 'poor', '--bucket', store.place.bucket];
    await server.admin('bucket', 'link', ...owner);
    await server.admin('bucket', 'chown', ...owner);
    const quota = ['--quota-scope', 'user', '--uid', 'poor'];
    await server.admin('quota', 'set', ...quota, '--max-size', String(MiB));
    await server.admin('quota', 'enable', ...quota);
    const blobs = await openBlobs({ ...store.place, ...poor });
    const digest = await putBytes(blobs, 'small');
    await expect(putBytes(blobs, randomBytes(3 * MiB))).rejects.toThrow(
      refusal('storage-full', /bucket is full; try again when the admin has made room/),
    );
    expect(await store.waiting()).toEqual([]);
    expect((await blobs.read(digest, 10)).toString()).toBe('small');
  });
});

describe('a bucket', () => {
  const script = join(CHECKOUT, 'test/machine/blob-memory.ts');

  it('takes and gives 300 MiB in memory for less than half of them', async () => {
    const place = await freshBucket(server);
    const peak = async (count: number): Promise<number> =>
      Number(await mustRun(NODE, [script, JSON.stringify(place), String(count)]));
    const little = await peak(1);
    expect((await peak(300)) - little).toBeLessThan(128 * MiB);
  });

  it('has nothing of a blob for which the disk has no room where bytes wait, as a directory has not', async () => {
    const { place, names } = await bucketStore(server);
    const full = await freshDirectory('full');
    // In a mount namespace of its own, so that nothing stays mounted.
    const mounted = `mount -t tmpfs -o size=4m none '${full}' && exec "$0" "$@"`;
    const directory: BlobPlace = { kind: 'directory', directory: join(full, 'blobs') };
    for (const small of [{ ...place, spool: full }, directory]) {
      const command = [NODE, script, JSON.stringify(small)];
      const put = (count: string): Promise<Ran> =>
        run('unshare', ['--mount', 'sh', '-c', mounted, ...command, count]);
      expect(await put('10')).toMatchObject({
        status: 1,
        stderr: expect.stringMatching(/KilnError: the service’s disk is full; try again when/),
      });
      expect(await names()).toEqual([]);
    }
    const fits = [NODE, script, JSON.stringify({ ...place, spool: full }), '2'];
    expect((await run('unshare', ['--mount', 'sh', '-c', mounted, ...fits])).status).toBe(0);
  });

  it('lists more blobs than the server says at once, beside keys of all kinds', async () => {
    const { place, blobs, lay } = await bucketStore(server);
    const folder = `${place.bucket}/${place.prefix}ab/ab`;
    const said = await server.curl(
      `${folder}${'0'.repeat(58)}[1000-3100]`,
      '--request',
      'PUT',
      '--header',
      'Content-Length: 0',
      '--parallel',
    );
    expect(said.match(/\n200/g)).toHaveLength(2101);
    for (const name of ['%01', '%26%3C%22', '%C3%A4', 'ab/']) await lay(name, Buffer.from('x'));
    const found = new Set<string>();
    for await (const { digest, size } of blobs.list()) {
      expect(size).toBe(0);
      found.add(hexOf(digest));
    }
    expect(found.size).toBe(2101);
    expect(found.has(`ab${'0'.repeat(58)}3100`)).toBe(true);
  });

  it('costs nothing where blobs are in a directory: what S3 needs is not loaded', async () => {
    const probe = join(await freshDirectory('loaded'), 'loaded.ts');
    const service = (file: string): string => JSON.stringify(join(CHECKOUT, 'services', file));
    await writeFile(
      probe,
      `import { registerHooks } from 'node:module';
let count = 0;
registerHooks({
  load(url, context, next) {
    if (url.includes('@aws-sdk')) count += 1;
    return next(url, context);
  },
});
for (const file of [${['api/start-api.ts', 'builder/start-builder.ts', 'signer/start-signer.ts', 'api/gc.ts'].map(service).join(', ')}])
  await import(file);
const { openBlobs } = await import(${service('storage/open-blobs.ts')});
await openBlobs(JSON.parse(process.argv[2]));
process.stdout.write(String(count));`,
    );
    const loaded = async (place: BlobPlace): Promise<number> =>
      Number(await mustRun(NODE, [probe, JSON.stringify(place)]));
    const directory = await freshDirectory('blobs');
    expect(await loaded({ kind: 'directory', directory })).toBe(0);
    expect(await loaded(await freshBucket(server))).toBeGreaterThan(0);
  });
});
