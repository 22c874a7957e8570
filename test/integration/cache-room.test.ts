import { mkdir, readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { imageName, openCacheRoom } from '../../services/builder/cache-room.ts';
import { connectDocker, type ContainerEngine } from '../../services/builder/docker.ts';
import { createImageCache } from '../../services/builder/image-cache.ts';
import { NO_METERS } from '../../services/storage/meters.ts';
import { openTreeCache } from '../../services/builder/tree-cache.ts';
import { openBlobDirectory, type Blobs } from '../../services/storage/blobs.ts';
import { digestOf, hexOf, type Digest } from '../../services/core/digest.ts';
import { freshDirectory, writeTar } from '../machine/make-source.ts';
import { mustRun } from '../machine/run.ts';

const DAY = 24 * 3_600_000;
const tree = (text: string): string => `tree-${hexOf(digestOf(text))}`;
const engine: ContainerEngine = connectDocker('/var/run/docker.sock');

/** Makes a thing look as if it was last used so many days ago. */
const age = async (directory: string, name: string, days: number): Promise<void> => {
  const at = new Date(Date.now() - days * DAY);
  await utimes(join(directory, 'used', name), at, at);
};

describe('a builder’s unpacked trees', () => {
  it('go when there is no room or nobody uses them, those first that were not used for longest, and after a restart too', async () => {
    const directory = await freshDirectory('cache');
    const names = ['a', 'b', 'c', 'd'].map(tree);
    const room = await openCacheRoom(directory, engine);
    for (const [index, name] of names.entries()) {
      await mkdir(join(directory, name, 'deep'), { recursive: true });
      await writeFile(join(directory, name, 'deep/file'), 'x'.repeat(1000));
      await room.used(name);
      await age(directory, name, 10 - index);
    }
    expect(await room.collect({ bytes: 4000, days: 11 })).toEqual([]);
    const again = await openCacheRoom(directory, engine);
    await again.used(names[0] ?? '');
    expect(await again.collect({ bytes: 2500, days: 11 })).toEqual([names[1], names[2]]);
    const left = async (): Promise<string[]> =>
      (await readdir(directory)).filter((name) => name.startsWith('tree-'));
    expect((await left()).sort()).toEqual([names[0], names[3]].sort());
    expect(await again.collect({ bytes: 2500, days: 6 })).toEqual([names[3]]);
    expect(await left()).toEqual([names[0]]);
    expect(await readdir(join(directory, 'leaving'))).toEqual([]);
  });

  it('are unpacked anew when a build needs one that went', async () => {
    const directory = await freshDirectory('cache');
    const blobs = await openBlobDirectory(await freshDirectory('blobs'));
    const room = await openCacheRoom(directory, engine);
    const trees = await openTreeCache(directory, blobs, room, NO_METERS);
    const settings = { '/etc/dkms/a.conf': 'A=1\n' };
    const [first] = await trees.settings(settings);
    expect(await room.collect({ bytes: 0, days: 1 })).toHaveLength(1);
    await expect(readFile(first?.from ?? '')).rejects.toThrow(/ENOENT/);
    const [again] = await trees.settings(settings);
    expect(await readFile(again?.from ?? '', 'utf8')).toBe('A=1\n');
    expect(await room.collect({ bytes: 1000, days: 1 })).toEqual([]);
  });
});

describe('the images of toolchains in Docker', () => {
  let directory = '';
  let blobs: Blobs;
  const made: Digest[] = [];
  const containers: string[] = [];
  beforeAll(async () => {
    directory = await freshDirectory('cache');
    blobs = await openBlobDirectory(await freshDirectory('blobs'));
  });
  afterAll(async () => {
    for (const id of containers) await mustRun('docker', ['rm', '-f', id]);
    await mustRun('docker', ['rmi', NAME]).catch(() => {});
    for (const rootfs of made) await engine.removeImage(rootfs);
  });

  const NAME = `kiln-test-named:${process.pid}`;
  /** A root file system that no other has, as a blob. */
  const rootfs = async (label: string): Promise<Digest> => {
    const text = `${label} ${process.pid} ${Date.now()}`;
    const file = await writeTar(label, [{ name: 'what', text }]);
    const bytes = await readFile(file);
    const { digest } = await blobs.put(Readable.from([bytes]), {
      limit: bytes.length,
    });
    made.push(digest);
    return digest;
  };
  const isThere = async (toolchain: Digest): Promise<boolean> =>
    (await engine.findImage(toolchain)) !== null;

  it('go as trees do, and never one that a container has, that somebody has named or that this builder never used', async () => {
    const room = await openCacheRoom(directory, engine);
    const images = createImageCache(engine, blobs, room, NO_METERS);
    const [idle, busy, named, recent] = [
      await rootfs('idle'),
      await rootfs('busy'),
      await rootfs('named'),
      await rootfs('recent'),
    ];
    for (const toolchain of [idle, busy, named, recent]) await images.get(toolchain);
    containers.push((await mustRun('docker', ['create', await images.get(busy), 'none'])).trim());
    await mustRun('docker', ['tag', await images.get(named), NAME]);
    const anothers = await rootfs('another’s');
    await engine.importImage(anothers, await blobs.open(anothers));
    for (const toolchain of [idle, busy, named]) await age(directory, imageName(toolchain), 31);

    expect(await room.collect({ bytes: 1e9, days: 30 })).toEqual([imageName(idle)]);
    expect(await isThere(idle)).toBe(false);
    for (const toolchain of [busy, named, recent, anothers])
      expect(await isThere(toolchain)).toBe(true);

    // A container's end frees its image; no room takes the recent one, too.
    await mustRun('docker', ['rm', '-f', containers.pop() ?? '']);
    expect(await room.collect({ bytes: 0, days: 30 })).toEqual([busy, recent].map(imageName));
    expect(await isThere(anothers)).toBe(true);
  });

  it('are made anew when a build needs one that went, and are forgotten where somebody else removed them', async () => {
    const room = await openCacheRoom(directory, engine);
    const images = createImageCache(engine, blobs, room, NO_METERS);
    const toolchain = await rootfs('again');
    const first = await images.get(toolchain);
    expect(await room.collect({ bytes: 0, days: 30 })).toContain(imageName(toolchain));
    const again = await images.get(toolchain);
    expect(await isThere(toolchain)).toBe(true);
    expect(again).not.toBe('');
    expect(first).not.toBe('');
    await mustRun('docker', ['rmi', again]);
    expect(await room.collect({ bytes: 0, days: 30 })).not.toContain(imageName(toolchain));
    expect(await readdir(join(directory, 'used'))).not.toContain(imageName(toolchain));
  });
});
