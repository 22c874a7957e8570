import { describe, expect, it } from '@jest/globals';
import {
  createTarballGate,
  DEFAULT_TARBALL_LIMITS,
  plainPath,
  resolveLink,
  type AdmittedEntry,
  type TarballLimits,
  type ClaimedEntry,
} from '../../services/core/tree/tarball-rules.ts';
import { refusal, withinSeconds } from './samples.ts';

const file = (name: string, size = 0): ClaimedEntry => ({ name, type: 'file', size });
const directory = (name: string): ClaimedEntry => ({ name, type: 'directory' });
const symlink = (name: string, linkname: string): ClaimedEntry => ({
  name,
  type: 'symlink',
  linkname,
});
const hardlink = (name: string, linkname: string): ClaimedEntry => ({
  name,
  type: 'link',
  linkname,
});

const readAll = (
  entries: readonly ClaimedEntry[],
  limits?: Partial<TarballLimits>,
): AdmittedEntry[] => {
  const gate = createTarballGate({ ...DEFAULT_TARBALL_LIMITS, ...limits });
  const admitted = entries.map((entry) => gate.admit(entry));
  gate.finish();
  return admitted;
};

describe('a path of a tarball', () => {
  it.each([
    ['a/b.c', 'a/b.c'],
    ['./a//b/./c/', 'a/b/c'],
    ['.', ''],
    ['..a/b..', '..a/b..'],
    ['ä b', 'ä b'],
    ['a'.repeat(1024), 'a'.repeat(1024)],
  ])('%j is read as %j', (name, plain) => {
    expect(plainPath(name)).toBe(plain);
  });

  it.each([
    ['/etc/passwd', /absolute/],
    ['..', /leaves the tree/],
    ['a/../../b', /leaves the tree/],
    ['a/..', /leaves the tree/],
    ['a\nb', /control character/],
    ['a\u0000b', /control character/],
    ['a\u007fb', /control character/],
    ['a'.repeat(1025), /over 1024 characters/],
  ])('%j is refused', (name, words) => {
    expect(() => plainPath(name)).toThrow(refusal('bad-tarball', words));
  });
});

describe('a tarball', () => {
  it('is admitted with files, directories, links and hard links of its own', () => {
    expect(
      readAll([
        directory('./'),
        directory('src'),
        { name: './src/run', type: 'file', mode: 0o755, size: 3 },
        { name: 'src/data', type: 'contiguous-file', mode: 0o644, size: 3 },
        symlink('src/link', '../other/later'),
        hardlink('src/hard', './src/run'),
        hardlink('src/harder', 'src/hard'),
        file('other/later'),
        directory('src/'),
      ]),
    ).toEqual([
      { kind: 'directory', path: '' },
      { kind: 'directory', path: 'src' },
      { kind: 'file', path: 'src/run', executable: true },
      { kind: 'file', path: 'src/data', executable: false },
      { kind: 'symlink', path: 'src/link', target: '../other/later' },
      { kind: 'hardlink', path: 'src/hard', target: 'src/run' },
      { kind: 'hardlink', path: 'src/harder', target: 'src/hard' },
      { kind: 'file', path: 'other/later', executable: false },
      { kind: 'directory', path: 'src' },
    ]);
  });

  it.each<[string, RegExp, ClaimedEntry[]]>([
    ['a file twice', /twice/, [file('a'), file('./a')]],
    ['a file and a link of one name', /twice/, [file('a'), symlink('a', 'b')]],
    ['a file where a directory is', /twice/, [file('a/b'), file('a')]],
    ['a directory where a link is', /twice/, [symlink('a', 'b'), directory('a')]],
    ['a link where a directory is', /twice/, [file('a/b'), symlink('a', '/')]],
    ['an entry below a file', /not a directory/, [file('a'), file('a/b')]],
    ['an entry below a link', /not a directory/, [symlink('a', 'b'), file('a/c')]],
    ['an entry two below a link', /not a directory/, [symlink('a', 'b'), file('a/c/d')]],
    ['an entry deep below a link', /not a directory/, [symlink('a', 'b'), file('a/c/d/e')]],
    ['an entry below a hard link', /not a directory/, [file('a'), hardlink('b', 'a'), file('b/c')]],
    ['a file without a name', /without a name/, [file('./')]],
    ['a link without a target', /no usable target/, [symlink('a', '')]],
    ['a link with too long a target', /no usable target/, [symlink('a', 'b'.repeat(1025))]],
    ['a hard link to nothing', /not a file before it/, [hardlink('a', 'b')]],
    ['a hard link to what comes later', /not a file before it/, [hardlink('a', 'b'), file('b')]],
    ['a hard link to a link', /not a file before it/, [symlink('b', 'c'), hardlink('a', 'b')]],
    ['a hard link to a directory', /not a file before it/, [directory('b'), hardlink('a', 'b')]],
    ['a hard link out of the tree', /leaves the tree/, [hardlink('a', '../b')]],
  ])('is refused with %s', (_, words, entries) => {
    expect(() => readAll(entries)).toThrow(refusal('bad-tarball', words));
  });

  it.each(['character-device', 'block-device', 'fifo', null, undefined])(
    'is refused with an entry of type %s',
    (type) => {
      expect(() => readAll([{ name: 'a', type }])).toThrow(
        refusal('bad-tarball', /only files, directories and links/),
      );
    },
  );

  it.each<[string, ClaimedEntry[]]>([
    ['a link out of the tree', [symlink('a', '../b')]],
    ['a link out of the tree through itself', [symlink('a/b', '../c/../../d')]],
    ['a link through a link, then out', [symlink('p/q/l', '../..'), symlink('m', 'p/q/l/../x')]],
    ['a link through a later link, then out', [symlink('m', 'p/l/../x'), symlink('p/l', '/')]],
    ['an absolute link that climbs', [symlink('a', '/b/../../c')]],
    ['a link to itself', [symlink('a', 'a')]],
    ['two links in a circle', [symlink('a', 'd/b'), symlink('d/b', '../a')]],
  ])('is refused with %s', (_, entries) => {
    expect(() => readAll(entries)).toThrow(refusal('bad-tarball', /leads out of the tree/));
  });

  it('is admitted up to its limits, and too large one entry or one byte beyond', () => {
    expect(readAll([file('a'), file('b')], { entries: 2 })).toHaveLength(2);
    expect(readAll([file('a', 60), file('b', 40)], { bytes: 100 })).toHaveLength(2);
    expect(() => readAll([file('a'), file('b'), directory('c')], { entries: 2 })).toThrow(
      refusal('too-large', /over 2 entries/),
    );
    expect(() => readAll([file('a', 60), file('b', 41)], { bytes: 100 })).toThrow(
      refusal('too-large', /over 100 bytes/),
    );
  });

  it('is too large when the copies made for its hard links are', () => {
    const links = Array.from({ length: 9 }, (_, index) => hardlink(`l${index}`, 'a'));
    expect(() => readAll([file('a', 60), ...links], { bytes: 100 })).toThrow(
      refusal('too-large', /over 100 bytes/),
    );
  });

  it.each([symlink('.', 'b'), hardlink('./', 'a')])('is refused with a nameless $type', (link) => {
    expect(() => readAll([file('a'), link])).toThrow(refusal('bad-tarball', /./));
  });

  it('is refused with a link whose target has a NUL', () => {
    expect(() => readAll([symlink('a', 'b\u0000c')])).toThrow(refusal('bad-tarball', /./));
  });

  it('with links through links through links is read without delay', () => {
    const detour = 'd/../'.repeat(30);
    const chain = Array.from({ length: 39 }, (_, n) => symlink(`c${n}`, `${detour}c${n + 1}`));
    const many = Array.from({ length: 19_000 }, (_, n) => symlink(`l${n}`, 'c0'));
    expect(withinSeconds(3, () => readAll([...chain, ...many]).length)).toBe(19_039);
  });
});

describe('a tarball of little bytes', () => {
  it('is refused when its paths are deep', () => {
    expect(() => readAll([file(`${'a/'.repeat(65)}x`)])).toThrow(
      refusal('bad-tarball', /over 64 directories/),
    );
  });

  it('pays for the directories that it only implies', () => {
    const deep = Array.from({ length: 10 }, (_, n) => file(`${n}/${'a/'.repeat(20)}x`));
    expect(() => readAll(deep, { entries: 100 })).toThrow(refusal('too-large', /over 100 entries/));
  });

  it('is refused when it has more links than a tree may', () => {
    const many = Array.from({ length: 20_001 }, (_, n) => symlink(`l${n}`, 'x'));
    expect(() => readAll(many)).toThrow(refusal('bad-tarball', /too deep or too many/));
  });
});

describe('resolveLink', () => {
  const links = new Map([
    ['out', 'p/q/l/../x'],
    ['p/q/l', '../../..'],
    ['s', 'a/b/c'],
    ['near', 's/../../x'],
    ['rooted', '/a/./b//'],
    ['through', 'rooted/c'],
  ]);

  it.each([
    ['s', 'a/b/c'],
    ['near', 'a/x'],
    ['rooted', 'a/b'],
    ['through', 'a/b/c'],
    ['out', null],
    ['p/q/l', null],
  ])('follows %s to %s', (path, end) => {
    expect(resolveLink(path, links)).toBe(end);
  });

  it('follows 40 links, and not one more', () => {
    const chain = (length: number): Map<string, string> =>
      new Map(Array.from({ length }, (_, index) => [`l${index}`, `l${index + 1}`]));
    expect(resolveLink('l0', chain(40))).toBe('l40');
    expect(resolveLink('l0', chain(41))).toBeNull();
  });
});
