import { createReadStream } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { describe, expect, it } from '@jest/globals';
import { readTarball } from '../../services/storage/read-tarball.ts';
import { scanTarball } from '../../services/storage/scan-tarball.ts';
import { unpackTree } from '../../services/storage/unpack-tree.ts';
import { freshDirectory, writeTar } from '../machine/make-source.ts';
import { mustRun } from '../machine/run.ts';
import { refusal } from '../unit/samples.ts';

const LIMITS = { entries: 50, bytes: 1024 ** 2, pathLength: 200 };

/** The paths of a tarball's files. */
const pathsOf = async (tarball: Readable): Promise<string[]> => {
  const paths: string[] = [];
  await readTarball(
    tarball,
    async (entry, body) => {
      for await (const _ of body);
      if (entry.kind !== 'directory') paths.push(entry.path);
    },
    LIMITS,
  );
  return paths;
};

const deb = async (name: string, files: Readonly<Record<string, string>>): Promise<string> => {
  const directory = await freshDirectory(name);
  const tree = join(directory, 'tree');
  await mkdir(join(tree, 'DEBIAN'), { recursive: true });
  await writeFile(
    join(tree, 'DEBIAN/control'),
    `Package: ${name}\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n`,
  );
  for (const [file, text] of Object.entries(files)) await writeFile(join(tree, file), text);
  const made = join(directory, `${name}.deb`);
  await mustRun('dpkg-deb', ['-Zgzip', '-b', tree, made]);
  return made;
};

const tarOf = async (files: readonly string[]): Promise<Buffer> => {
  const entries = await Promise.all(
    files.map(async (file, index) => ({
      name: `${index}.deb`,
      text: (await readFile(file)).toString('latin1'),
    })),
  );
  const made = join(await freshDirectory('outer'), 'outer.tar');
  const folder = await freshDirectory('members');
  for (const { name, text } of entries) await writeFile(join(folder, name), text, 'latin1');
  await mustRun('tar', ['-C', folder, '-cf', made, ...entries.map(({ name }) => name)]);
  return readFile(made);
};

describe('a Debian package', () => {
  it('is read whatever pieces it comes in, with its description beside its files', async () => {
    const bytes = await readFile(await deb('small', { hello: 'hello\n' }));
    for (const size of [1, 7, 61, 500, bytes.length]) {
      const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
        bytes.subarray(index * size, (index + 1) * size),
      );
      const paths = await pathsOf(Readable.from(pieces, { objectMode: false }));
      expect(paths.sort()).toEqual(['DEBIAN/control', 'hello']);
    }
  });

  it('is refused where it is cut short', async () => {
    const bytes = await readFile(await deb('cut', { hello: 'hello\n'.repeat(1000) }));
    for (const length of [9, 70, 200, bytes.length - 30]) {
      const cut = Readable.from([bytes.subarray(0, length)], { objectMode: false });
      await expect(pathsOf(cut)).rejects.toEqual(refusal('bad-tarball', /./));
    }
  });

  it('may unpack to no more than a tarball may, and neither may several in one tarball', async () => {
    const large = await deb('large', { zeros: '\0'.repeat(900_000) });
    expect(await pathsOf(createReadStream(large))).toContain('zeros');
    const many = await tarOf([large, large, large]);
    await expect(pathsOf(Readable.from([many], { objectMode: false }))).rejects.toEqual(
      refusal('too-large', /unpacks to over/),
    );
    const huge = await deb('huge', { zeros: '\0'.repeat(9_000_000) });
    await expect(pathsOf(createReadStream(huge))).rejects.toEqual(
      refusal('too-large', /unpacks to over/),
    );
  });

  it('inside a package, or beside other files, is a file or a refusal, never unpacked', async () => {
    const inner = await deb('inner', { secret: 'x' });
    const outer = await tarOf([inner]);
    const nested = await writeTar('nested', [{ name: '0.deb', text: outer.toString('latin1') }]);
    await expect(pathsOf(createReadStream(nested))).rejects.toEqual(
      refusal('bad-tarball', /no such package/),
    );
    const beside = await writeTar('beside', [
      { name: 'Makefile', text: 'all:\n' },
      { name: 'vendor.deb', text: 'no package\n' },
    ]);
    expect(await pathsOf(createReadStream(beside))).toEqual(['Makefile', 'vendor.deb']);
  });
});

describe('a hard link', () => {
  const HEADER = 'usr/src/x/include/generated/utsrelease.h';

  it('hides no evidence', async () => {
    const tar = await writeTar('hidden', [
      { name: 'junk', text: '#define UTS_RELEASE "6.1.0"\n' },
      { name: HEADER, type: 'link', linkname: 'junk' },
    ]);
    await expect(scanTarball(createReadStream(tar), (path) => path === HEADER)).rejects.toEqual(
      refusal('bad-tarball', /hard link to junk/),
    );
  });

  it('to a file that the tree leaves out is refused, not left out with it', async () => {
    const tar = await writeTar('lost', [
      { name: 'junk', text: 'content' },
      { name: 'tree/file', type: 'link', linkname: 'junk' },
    ]);
    const layout = [{ from: 'tree', to: '' }];
    await expect(
      unpackTree(createReadStream(tar), await freshDirectory('lost'), layout, 0),
    ).rejects.toEqual(refusal('bad-tarball', /not part of the tree/));
  });
});
