import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import { erofsImage, type ErofsFile } from '../../services/storage/erofs.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { mustRun, run } from '../machine/run.ts';

/** The file system of images, as fsck.erofs and the kernel read it. */

const TIME = 1_000_000_000;
const file = (path: string, bytes: Buffer | string = path, mode = 0o644): ErofsFile => ({
  path,
  bytes: Buffer.from(bytes),
  mode,
});
const written = async (files: readonly ErofsFile[]): Promise<string> => {
  const image = join(await freshDirectory('erofs'), 'image.raw');
  await writeFile(image, erofsImage(files, TIME));
  return image;
};
/** What the kernel finds in an image: a line for each file and directory, with its type, mode, owner, time, size, and the digest of its bytes. */
const found = async (image: string): Promise<readonly string[]> => {
  const at = await freshDirectory('mounted');
  const script = `mount -t erofs -o loop,ro "$0" "$1" && cd "$1" &&
    find . -printf '%y %m %U:%G %T@ %n %s %P\\n' | sort -k 7 && find . -type f -exec sha256sum {} + | sort -k 2`;
  const out = await mustRun('unshare', ['-m', 'sh', '-c', script, image, at]);
  return out.trim().split('\n');
};

const SETS: Readonly<Record<string, readonly ErofsFile[]>> = {
  'one file': [file('/usr/lib/modules/6.1/updates/a/a.ko', 'module')],
  'an empty file': [file('/usr/empty', '')],
  'files that end at the end of a block': [
    file('/a', 'x'.repeat(4096)),
    file('/b', 'y'.repeat(8192)),
  ],
  'a file of a megabyte': [file('/a', Buffer.alloc(1024 ** 2 + 1, 7)), file('/z', 'after')],
  'a program': [file('/usr/lib/load', '#!/bin/sh\n', 0o755)],
  'names that stand before the dots': [
    file('/-'),
    file('/+'),
    file('/!a'),
    file('/a/-b'),
    file('/~'),
  ],
  'a directory of many blocks': Array.from({ length: 1200 }, (_, at) =>
    file(`/usr/many/file-${at}`),
  ),
  'names of the longest kind': Array.from({ length: 40 }, (_, at) =>
    file(`/${String(at).padStart(3, '0')}${'n'.repeat(252)}`),
  ),
  'no files': [],
};

describe('an image', () => {
  it.each(Object.keys(SETS))(
    'of %s is as fsck.erofs and the kernel would have it',
    async (name) => {
      const files = SETS[name] ?? [];
      const image = await written(files);
      const judged = await run('fsck.erofs', [image]);
      expect([judged.status, judged.stderr]).toEqual([0, '']);
      const lines = await found(image);
      const sums = lines.filter((line) => /^[0-9a-f]{64} /.test(line));
      expect(sums).toEqual(
        files
          .map(({ path, bytes }) => `${digestOf(bytes).slice('sha256:'.length)}  .${path}`)
          .sort((one, other) => (one.slice(66) < other.slice(66) ? -1 : 1)),
      );
      for (const { path, bytes, mode } of files)
        expect(lines).toContain(
          `f ${mode.toString(8)} 0:0 ${TIME}.0000000000 1 ${bytes.length} ${path.slice(1)}`,
        );
      for (const line of lines.filter((each) => each.startsWith('d ')))
        expect(line).toMatch(/^d 755 0:0 1000000000\.0+ \d+ \d+/);
    },
  );

  it('has the same bytes for the same files, in whatever order', async () => {
    const files = SETS['a directory of many blocks'] ?? [];
    expect(erofsImage(files.toReversed(), TIME)).toEqual(erofsImage(files, TIME));
  });

  it('holds no file twice, nor below another', () => {
    expect(() => erofsImage([file('/a'), file('/a')], TIME)).toThrow(/\/a is there twice/);
    expect(() => erofsImage([file('/a'), file('/a/b')], TIME)).toThrow(/\/a\/b is below a file/);
  });
});
