import { randomBytes } from 'node:crypto';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import { openBlobs } from '../../services/storage/open-blobs.ts';
import { bucketStore, putBytes } from '../machine/blob-stores.ts';
import { startMute, startRelay } from '../machine/faulty-network.ts';
import { startS3Server, type S3Server } from '../machine/s3-server.ts';
import { until } from '../machine/until.ts';
import { refusal } from '../unit/samples.ts';

/** Blobs in a bucket, where the server dies or the way to it fails in the middle of what is done. */

const MiB = 1024 ** 2;
let server: S3Server;
beforeAll(async () => {
  server = await startS3Server();
});
afterAll(() => server.stop());

/** Reads all of a stream, with a pause after each of its first pieces. */
const drain = async (stream: Readable, pause = 0): Promise<Buffer> => {
  const got: Buffer[] = [];
  for await (const piece of stream) {
    got.push(piece as Buffer);
    if (pause > 0 && got.length < 4) await sleep(pause);
  }
  return Buffer.concat(got);
};

describe('a server that is killed', () => {
  it('in the middle of a put has nothing of the blob, and all of it when it is put again', async () => {
    const store = await bucketStore(server);
    let [sent, killing] = [0, Promise.resolve()];
    const relay = await startRelay(server.endpoint, 0, (piece) => {
      const before = sent;
      sent += piece.length;
      if (before <= 20 * MiB && sent > 20 * MiB) killing = server.kill();
      return piece;
    });
    const blobs = await openBlobs({ ...store.place, endpoint: relay.url });
    const bytes = randomBytes(60 * MiB);
    await expect(putBytes(blobs, bytes)).rejects.toThrow(
      refusal('unavailable', /cannot be reached/),
    );
    await killing;
    expect(sent).toBeGreaterThan(20 * MiB);
    expect(await store.waiting()).toEqual([]);
    await server.revive();
    expect(await store.blobs.find(digestOf(bytes))).toBeNull();
    expect(await store.names()).toEqual([]);
    const digest = await putBytes(blobs, bytes);
    expect(await store.blobs.check(digest)).toEqual({ digest, size: bytes.length });
    await relay.close();
  });

  it('in the middle of a get ends the stream with one sentence, before its last bytes', async () => {
    const { blobs } = await bucketStore(server);
    const bytes = randomBytes(40 * MiB);
    const digest = await putBytes(blobs, bytes);
    const stream = await blobs.open(digest);
    let got = 0;
    const reading = async (): Promise<void> => {
      for await (const piece of stream) {
        if (got === 0) await server.kill();
        got += (piece as Buffer).length;
      }
    };
    await expect(reading()).rejects.toThrow(refusal('unavailable', /cannot be reached/));
    expect(got).toBeLessThan(bytes.length);
    await expect(blobs.find(digest)).rejects.toThrow(refusal('unavailable', /cannot be reached/));
    await server.revive();
    expect(await blobs.check(digest)).toEqual({ digest, size: bytes.length });
  });

  it('and comes back at once is not noticed', async () => {
    const { blobs } = await bucketStore(server);
    const bytes = randomBytes(20 * MiB);
    await server.kill();
    const putting = putBytes(blobs, bytes);
    await sleep(500);
    await server.revive();
    const digest = await putting;
    const stream = await blobs.open(digest);
    let got = 0;
    for await (const piece of stream) {
      if (got === 0) {
        await server.kill();
        void server.revive();
      }
      got += (piece as Buffer).length;
    }
    expect(got).toBe(bytes.length);
    await until('the server is back', () => blobs.find(digest).then((found) => found !== null));
  });
});

describe('a connection', () => {
  it('that breaks or falls silent is taken up again behind the bytes that have come', async () => {
    const { place } = await bucketStore(server);
    const relay = await startRelay(server.endpoint);
    const blobs = await openBlobs({ ...place, endpoint: relay.url, patience: 1000 });
    const bytes = randomBytes(9 * MiB);
    const digest = await putBytes(blobs, bytes);
    for (const fault of [relay.cutAfter, relay.stallAfter]) {
      const before = relay.carried();
      fault(5 * MiB);
      expect((await drain(await blobs.open(digest))).equals(bytes)).toBe(true);
      expect(relay.carried() - before).toBeLessThan(10 * MiB);
    }
    expect(relay.asked()).toMatch(/^range: bytes=5\d{6}-/im);
    await relay.close();
  });

  it('is not taken up where the blob was exchanged meanwhile', async () => {
    const store = await bucketStore(server);
    const relay = await startRelay(server.endpoint);
    const blobs = await openBlobs({ ...store.place, endpoint: relay.url });
    const bytes = randomBytes(9 * MiB);
    const digest = await putBytes(blobs, bytes);
    relay.cutAfter(5 * MiB);
    const stream = await blobs.open(digest);
    await store.lay(digest, Buffer.concat([bytes.subarray(0, -1), Buffer.from('?')]));
    await expect(drain(stream)).rejects.toThrow(
      refusal('unavailable', /stored anew while it was read/),
    );
    await relay.close();
  });

  it('that falls silent under a put ends it', async () => {
    const { place } = await bucketStore(server);
    const mute = await startMute();
    const relay = await startRelay(server.endpoint);
    const blobs = await openBlobs({ ...place, endpoint: relay.url, patience: 500 });
    const { port } = new URL(relay.url);
    await relay.close();
    await mute.close();
    const deaf = await startMute(Number(port));
    await expect(putBytes(blobs, randomBytes(9 * MiB))).rejects.toThrow(
      refusal('unavailable', /was silent for 0\.5 seconds/),
    );
    await deaf.close();
  });

  it('waits for a reader that takes longer than the server may', async () => {
    const { place } = await bucketStore(server);
    const blobs = await openBlobs({ ...place, patience: 500 });
    const bytes = randomBytes(12 * MiB);
    const digest = await putBytes(blobs, bytes);
    expect((await drain(await blobs.open(digest), 1500)).equals(bytes)).toBe(true);
  });
});
