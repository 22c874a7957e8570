import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { digestOf, type Digest } from '../../services/core/digest.ts';
import type { Blobs } from '../../services/storage/blobs.ts';
import { openBlobs } from '../../services/storage/open-blobs.ts';
import { bucketStore, putBytes, type BlobStore } from '../machine/blob-stores.ts';
import { startHalting } from '../machine/faulty-network.ts';
import { startS3Server, type S3Server } from '../machine/s3-server.ts';
import { refusal } from '../unit/samples.ts';

/** Old blobs that are removed from a bucket while the same bytes are put: removal-marks.ts says what is promised. */

let server: S3Server;
beforeAll(async () => {
  server = await startS3Server();
});
const closing: (() => Promise<void>)[] = [];
afterAll(async () => {
  for (const close of closing) await close();
  await server.stop();
});

/** Waited for before a request goes on. */
type Before = Parameters<typeof startHalting>[1];
type Store = BlobStore & { readonly place: Parameters<typeof openBlobs>[0] & { kind: 's3' } };

/** The same blobs through a gateway. */
const through = async (
  { place }: Store,
  before: Before,
  settings: { readonly patience?: number } = {},
): Promise<Blobs> => {
  const gateway = await startHalting(server.endpoint, before);
  closing.push(gateway.close);
  return openBlobs({ ...place, ...settings, endpoint: gateway.url });
};

/** Milliseconds after which a blob counts as old, though times are told in whole seconds. */
const AGE = 3_000;
/** So many blobs in a bucket that all are old, and since when. */
const oldBlobs = async (
  count: number,
): Promise<{ readonly store: Store; readonly texts: readonly string[]; readonly old: number }> => {
  const store = await bucketStore(server);
  const texts = Array.from({ length: count }, (_, at) => `old ${at}`);
  for (const text of texts) await putBytes(store.blobs, text);
  await sleep(AGE);
  return { store, texts, old: Date.now() };
};

/** Halts what is done through a gateway before its request number `at`, until another act has ended, or waits for the first to end. */
const halted = (
  at: number,
  act: () => Promise<unknown>,
): {
  readonly before: Before;
  readonly requests: string[];
  readonly acted: () => Promise<unknown>;
} => {
  const requests: string[] = [];
  let acting: Promise<unknown> = Promise.resolve('never');
  return {
    requests,
    acted: () => acting,
    before: async ({ method = '', url = '' }) => {
      // The first is made when the blobs are opened.
      if (requests.push(`${method} ${url.split('/').at(-2)}`) - 1 !== at + 1) return;
      acting = act();
      await Promise.race([acting.catch(() => {}), sleep(1000)]);
    },
  };
};

describe('an old blob that is removed', () => {
  /** It is looked at, marked, looked at again along with the mark, and removed; then the mark is. */
  const STEPS = ['HEAD', 'PUT', 'HEAD', 'HEAD', 'DELETE', 'DELETE'];

  it('stays where the same bytes are put before any step of it', async () => {
    const { store, texts, old } = await oldBlobs(STEPS.length);
    for (const [at, text] of texts.entries()) {
      const gate = halted(at, () => putBytes(store.blobs, text));
      const removing = await through(store, gate.before);
      const removed = await removing.removeOld(digestOf(text), old);
      expect([at, await gate.acted()]).toEqual([at, digestOf(text)]);
      // The one whose age was looked at before is removed, and then put again.
      expect([at, removed]).toEqual([at, at >= 3]);
      expect([at, (await store.blobs.read(digestOf(text), 10)).toString()]).toEqual([at, text]);
      const steps = gate.requests.slice(1).map((line) => line.split(' ')[0]);
      if (removed) expect([at, steps]).toEqual([at, STEPS]);
    }
    expect(await store.names()).toHaveLength(texts.length);
  });

  it('is there again where it goes before any step of somebody who puts the same bytes', async () => {
    const { store, texts, old } = await oldBlobs(4);
    for (const [at, text] of texts.entries()) {
      const gate = halted(at, () => store.blobs.removeOld(digestOf(text), old));
      const putting = await through(store, gate.before);
      await putBytes(putting, text);
      // Before the put, the old one went; afterwards it was new. It takes three requests.
      expect([at, await gate.acted()]).toEqual([at, at === 0 ? true : at < 3 ? false : 'never']);
      expect([at, (await store.blobs.read(digestOf(text), 10)).toString()]).toEqual([at, text]);
    }
  });

  it('is put again where, after the put, neither its mark nor itself is found any more', async () => {
    const { store, texts, old } = await oldBlobs(1);
    const [text = ''] = texts;
    const about = Promise.withResolvers<void>();
    const put = Promise.withResolvers<void>();
    const removing = await through(store, async ({ method, url }) => {
      if (method !== 'DELETE' || url?.includes('/leaving/') === true) return;
      about.resolve();
      await put.promise;
    });
    const removed = removing.removeOld(digestOf(text), old);
    await about.promise;
    const requests: string[] = [];
    const putting = await through(store, async ({ method = '' }) => {
      requests.push(method);
      // The look for marks, after the one of whoever opens the blobs.
      if (requests.filter((each) => each === 'GET').length !== 2) return;
      put.resolve();
      await removed;
    });
    await putBytes(putting, text);
    expect(await removed).toBe(true);
    expect(requests.slice(1)).toEqual(['PUT', 'GET', 'HEAD', 'PUT', 'GET', 'HEAD']);
    expect((await store.blobs.read(digestOf(text), 10)).toString()).toBe(text);
  });

  it('is there whenever somebody has put the same bytes, whoever removes at the same moment', async () => {
    const { store, texts, old } = await oldBlobs(40);
    const others = await Promise.all([1, 2, 3].map(() => openBlobs(store.place)));
    let removals = 0;
    for (const [at, text] of texts.entries()) {
      const blob = digestOf(text);
      const removing = others.map(async ({ removeOld }, nth) => {
        await sleep((at * (nth + 1)) % 11);
        if (await removeOld(blob, old)) removals += 1;
      });
      await sleep(at % 7);
      await putBytes(store.blobs, text);
      expect([at, await store.blobs.find(blob)]).toEqual([at, { digest: blob, size: text.length }]);
      await Promise.all(removing);
      expect([at, await store.blobs.find(blob)]).toEqual([at, { digest: blob, size: text.length }]);
    }
    // Else nothing was tried.
    expect(removals).toBeGreaterThan(0);
    expect(await store.names()).toHaveLength(texts.length);
  });

  it.each([
    ['behind', '-10m'],
    ['ahead', '+10m'],
  ])('is told from a new one by a server whose clock is ten minutes %s', async (way, shift) => {
    await server.kill();
    await server.revive(shift);
    const { store, texts, old } = await oldBlobs(2);
    const [aged, renewed] = [digestOf(texts[0] ?? ''), digestOf(texts[1] ?? '')];
    await putBytes(store.blobs, texts[1] ?? '');
    expect(await store.blobs.removeOld(renewed, old)).toBe(false);
    expect(await store.blobs.find(renewed)).not.toBeNull();
    // By a clock that is ahead, what is old stays until it is so by either clock.
    expect(await store.blobs.removeOld(aged, old)).toBe(way === 'behind');
    expect(await store.blobs.removeOld(aged, old + 20 * 60_000)).toBe(way === 'ahead');
    expect(await store.blobs.find(aged)).toBeNull();
    await server.kill();
    await server.revive();
  });

  it('stays where its removal comes more than a quarter of an hour after it was sent', async () => {
    const { store, texts } = await oldBlobs(1);
    const blob = digestOf(texts[0] ?? '');
    await server.kill();
    await server.revive('+16m');
    await expect(store.take(blob)).rejects.toThrow(/RequestTimeTooSkewed/);
    await expect(openBlobs(store.place)).rejects.toThrow(
      refusal('unavailable', /^the clocks of the service and of its S3 server differ/),
    );
    await server.kill();
    await server.revive();
    expect(await store.blobs.find(blob)).not.toBeNull();
  });

  it('whose removal is lost is not put as long as that may still come, and can be afterwards', async () => {
    const { store, texts, old } = await oldBlobs(1);
    const [text = ''] = texts;
    const blob: Digest = digestOf(text);
    let letGo = (): void => {};
    const held = new Promise<void>((resolve) => (letGo = resolve));
    let isRemoval = true;
    const slow = await through(
      store,
      // The removal alone is kept on the way, longer than anybody waits for it.
      async ({ method, url }) => {
        if (method !== 'DELETE' || url?.includes('/leaving/') === true || !isRemoval) return;
        isRemoval = false;
        await held;
      },
      { patience: 1000 },
    );
    await expect(slow.removeOld(blob, old)).rejects.toThrow(
      refusal('unavailable', /silent for 1 seconds/),
    );
    expect(await store.blobs.find(blob)).not.toBeNull();
    const putting = putBytes(store.blobs, text);
    await sleep(2000);
    letGo();
    // It has come, behind the new bytes. Whoever put them was not told that they are there.
    await expect(putting).rejects.toThrow(
      refusal('unavailable', /are being removed at this moment, or were when the S3 server failed/),
    );
    const mark = (await store.names()).find((name) => name.startsWith('leaving/')) ?? 'no mark';
    await server.curl(`${store.place.bucket}/${store.place.prefix}${mark}`, '--request', 'DELETE');
    await putBytes(store.blobs, text);
    expect((await store.blobs.read(blob, 10)).toString()).toBe(text);
  });

  it('is known to be gone where the server did it without saying so', async () => {
    const { store, texts, old } = await oldBlobs(1);
    const [text = ''] = texts;
    let isFirst = true;
    const deaf = await through(
      store,
      async ({ method, url }) => {
        if (method !== 'DELETE' || url?.includes('/leaving/') === true || !isFirst) return;
        isFirst = false;
        await store.take(digestOf(text));
        await sleep(2000);
      },
      { patience: 1000 },
    );
    expect(await deaf.removeOld(digestOf(text), old)).toBe(true);
    expect(await store.names()).toEqual([]);
    await putBytes(store.blobs, text);
    expect(await store.blobs.find(digestOf(text))).not.toBeNull();
  });
});
