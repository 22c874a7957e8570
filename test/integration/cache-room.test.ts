import { mkdir, readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from '@jest/globals';
import { openCacheRoom } from '../../services/builder/cache-room.ts';
import { openTreeCache } from '../../services/builder/tree-cache.ts';
import { openBlobDirectory } from '../../services/storage/blobs.ts';
import { digestOf, hexOf } from '../../services/core/digest.ts';
import { freshDirectory } from '../machine/make-source.ts';

const tree = (text: string): string => `tree-${hexOf(digestOf(text))}`;

it('a builder’s trees go when there is no room, those first that were not used for longest, and after a restart too', async () => {
  const directory = await freshDirectory('cache');
  const arrivals = join(directory, 'arriving');
  await mkdir(arrivals);
  const names = ['a', 'b', 'c', 'd'].map(tree);
  const room = await openCacheRoom(directory, arrivals);
  for (const [index, name] of names.entries()) {
    await mkdir(join(directory, name, 'deep'), { recursive: true });
    await writeFile(join(directory, name, 'deep/file'), 'x'.repeat(1000));
    await room.used(name);
    await utimes(join(directory, 'used', name), index, index);
  }
  expect(await room.collect(4000)).toEqual([]);
  const again = await openCacheRoom(directory, arrivals);
  await again.used(names[0] ?? '');
  expect(await again.collect(2500)).toEqual([names[1], names[2]]);
  const left = (await readdir(directory)).filter((name) => name.startsWith('tree-'));
  expect(left.sort()).toEqual([names[0], names[3]].sort());
  expect(await readdir(arrivals)).toEqual([]);
});

it('a tree that went is unpacked anew when a build needs it', async () => {
  const directory = await freshDirectory('cache');
  const blobs = await openBlobDirectory(await freshDirectory('blobs'));
  const trees = await openTreeCache(directory, blobs);
  const settings = { '/etc/dkms/a.conf': 'A=1\n' };
  const [first] = await trees.settings(settings);
  expect(await trees.collect(0)).toHaveLength(1);
  await expect(readFile(first?.from ?? '')).rejects.toThrow(/ENOENT/);
  const [again] = await trees.settings(settings);
  expect(await readFile(again?.from ?? '', 'utf8')).toBe('A=1\n');
  expect(await trees.collect(1000)).toEqual([]);
});
