import { Readable } from 'node:stream';
import { afterAll, beforeEach, describe, expect, it } from '@jest/globals';
import { digestOf, type Digest } from '../../services/core/digest.ts';
import type { Blobs } from '../../services/storage/blobs.ts';
import { blobStores, type BlobStore } from '../machine/blob-stores.ts';
import { refusal } from '../unit/samples.ts';

/** What all blobs promise, wherever they are kept. */

const MiB = 1024 ** 2;
const stores = blobStores();
afterAll(() => stores.stop());

const streamOf = (bytes: Buffer | string): Readable =>
  Readable.from([Buffer.from(bytes)], { objectMode: false });
const numbered = (length: number): Buffer =>
  Buffer.from(Array.from({ length }, (_, at) => (at * 7) % 251));

describe.each(stores.each)('blobs in %s', (_, open) => {
  const text = Buffer.from('a blob');
  const digest = digestOf(text);
  let store: BlobStore;
  let blobs: Blobs;
  beforeEach(async () => {
    store = await open();
    ({ blobs } = store);
  });
  const put = async (bytes: Buffer | string): Promise<Digest> =>
    (await blobs.put(streamOf(bytes), { limit: 100 * MiB })).digest;
  const listed = async (): Promise<readonly (readonly [string, number])[]> => {
    const found: (readonly [string, number])[] = [];
    for await (const blob of blobs.list()) found.push([blob.digest, blob.size]);
    return found.sort();
  };
  const isEmpty = async (): Promise<void> => {
    expect(await store.names()).toEqual([]);
    expect(await store.waiting()).toEqual([]);
  };

  it('are given out as they were put, whole and in any range', async () => {
    for (const size of [0, 1, MiB - 1, MiB, MiB + 1, 3 * MiB + 5]) {
      const bytes = numbered(size);
      const blob = await put(bytes);
      expect(blob).toBe(digestOf(bytes));
      expect(await blobs.find(blob)).toEqual({ digest: blob, size });
      expect(await blobs.check(blob)).toEqual({ digest: blob, size });
      expect((await blobs.read(blob, size)).equals(bytes)).toBe(true);
      for (const [start, end] of [
        [0, 0],
        [5, MiB - 1],
        [MiB - 1, MiB],
        [MiB, 3 * MiB + 4],
        [0, 3 * MiB + 4],
      ] as const) {
        const got: Buffer[] = [];
        for await (const piece of await blobs.open(blob, { start, end })) got.push(piece as Buffer);
        expect(Buffer.concat(got).equals(bytes.subarray(start, end + 1))).toBe(true);
      }
    }
    expect(await store.waiting()).toEqual([]);
  });

  it('are not there, where nobody has put them', async () => {
    const words = /there is no blob sha256:/;
    expect(await blobs.find(digest)).toBeNull();
    for (const use of [blobs.open(digest), blobs.read(digest, 10), blobs.check(digest)])
      await expect(use).rejects.toThrow(refusal('not-found', words));
    await blobs.remove(digest);
    expect(await blobs.removeOld(digest, Infinity)).toBe(false);
    expect(await listed()).toEqual([]);
  });

  it('are refused over the limit, or where others were announced; nothing of them stays', async () => {
    let hashed = 0;
    const onHashed = async (): Promise<void> => void (hashed += 1);
    await expect(blobs.put(streamOf(text), { limit: 5, onHashed })).rejects.toThrow(
      refusal('too-large', /over 5 bytes/),
    );
    const expected = digestOf('others');
    await expect(blobs.put(streamOf(text), { limit: 6, expected, onHashed })).rejects.toThrow(
      refusal('digest-mismatch', /send them again/),
    );
    expect(hashed).toBe(0);
    await isEmpty();
    await blobs.put(streamOf(text), { limit: 6, expected: digest, onHashed });
    expect(hashed).toBe(1);
  });

  it('are not there before it is said that all has come, nor where that is of no use', async () => {
    let before: unknown = 'not asked';
    const onHashed = async (blob: Digest): Promise<void> => {
      expect(blob).toBe(digest);
      before = await blobs.find(blob);
      throw new Error('no claim');
    };
    await expect(blobs.put(streamOf(text), { limit: 10, onHashed })).rejects.toThrow('no claim');
    expect(before).toBeNull();
    await isEmpty();
  });

  it('are not there where their bytes broke off', async () => {
    const broken = Readable.from(
      (async function* () {
        yield Buffer.alloc(2 * MiB);
        throw new Error('broken off');
      })(),
      { objectMode: false },
    );
    await expect(blobs.put(broken, { limit: 5 * MiB })).rejects.toThrow('broken off');
    await isEmpty();
  });

  it('are one where several put the same at once', async () => {
    const bytes = numbered(2 * MiB);
    await Promise.all(Array.from({ length: 8 }, () => put(bytes)));
    expect(await listed()).toEqual([[digestOf(bytes), 2 * MiB]]);
    expect((await blobs.read(digestOf(bytes), 2 * MiB)).equals(bytes)).toBe(true);
    expect(await store.names()).toHaveLength(1);
  });

  it('are read into memory up to a limit', async () => {
    await put(text);
    await expect(blobs.read(digest, 5)).rejects.toThrow(refusal('too-large', /over 5 bytes/));
    expect(await blobs.read(digest, 6)).toEqual(text);
  });

  it.each([
    ['exchanged', Buffer.from('others')],
    ['cut', text.subarray(0, -1)],
    ['continued', Buffer.concat([text, Buffer.from('!')])],
    ['emptied', Buffer.alloc(0)],
  ])('are not given out where their bytes were %s, until they are put again', async (__, bytes) => {
    await put(text);
    await store.lay(digest, bytes);
    const words = /is damaged: its bytes have another digest/;
    for (const use of [
      blobs.open(digest),
      blobs.open(digest, { start: 0, end: 1 }),
      blobs.read(digest, 1000),
      blobs.check(digest),
    ])
      await expect(use).rejects.toThrow(refusal('internal', words));
    await put(text);
    expect(await blobs.read(digest, 1000)).toEqual(text);
  });

  it.each([
    ['at its end', 5 * MiB + 6, undefined],
    ['at its beginning', 0, undefined],
    ['behind the range that is wanted', 5 * MiB, { start: 0, end: 3 * MiB }],
  ])('end before their last bytes where a large one was changed %s', async (__, at, range) => {
    const large = numbered(5 * MiB + 7);
    const blob = await put(large);
    const changed = Buffer.from(large);
    changed[at] = (changed[at] ?? 0) ^ 1;
    await store.lay(blob, changed);
    const got: Buffer[] = [];
    const reading = async (): Promise<void> => {
      for await (const piece of await blobs.open(blob, range)) got.push(piece as Buffer);
    };
    await expect(reading()).rejects.toThrow(refusal('internal', /another digest/));
    const wanted = range === undefined ? large.length : range.end + 1;
    expect(Buffer.concat(got).length).toBeLessThan(wanted);
  });

  it('are not there where somebody took them away', async () => {
    await put(text);
    await store.take(digest);
    expect(await blobs.find(digest)).toBeNull();
    await expect(blobs.open(digest)).rejects.toThrow(refusal('not-found', /there is no blob/));
  });

  it('are listed with their sizes and the time that they came, and nothing else that lies there', async () => {
    const before = Date.now() - 2000;
    const other = digestOf('other');
    const hex = digest.slice(7);
    for (const name of [
      'README',
      `ab/${'0'.repeat(64)}`,
      `ff/${'F'.repeat(64)}`,
      `${hex.slice(0, 2)}/${hex}.part`,
      `${hex.slice(0, 2)}/deeper/${hex}`,
    ])
      await store.lay(name, text);
    await put(text);
    await put('other');
    expect(await listed()).toEqual([[digest, 6] as const, [other, 5] as const].sort());
    for await (const { arrivedAt } of blobs.list()) {
      expect(arrivedAt).toBeGreaterThan(before);
      expect(arrivedAt).toBeLessThanOrEqual(Date.now() + 1000);
    }
  });

  it('go when they are removed, or where they are old', async () => {
    await put(text);
    await blobs.remove(digest);
    await isEmpty();
    await put(text);
    expect(await blobs.removeOld(digest, Date.now() - 60_000)).toBe(false);
    expect(await blobs.find(digest)).not.toBeNull();
    expect(await blobs.removeOld(digest, Date.now() + 60_000)).toBe(true);
    await isEmpty();
    expect(await blobs.removeOld(digest, Infinity)).toBe(false);
    await isEmpty();
  });

  it('lose nothing of today when the service starts and clears what was left', async () => {
    await put(text);
    const left = ['arriving/something', 'leaving/something'];
    for (const name of left) await store.lay(name, text);
    await blobs.clearArrivals();
    const blob = `${digest.slice(7, 9)}/${digest.slice(7)}`;
    expect([...(await store.names())].sort()).toEqual([...left, blob].sort());
  });
});
