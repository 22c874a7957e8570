import { describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import { layTree, movedPath, type TreeEntry } from '../../services/core/tree/tree.ts';

const file = (path: string, content = path, executable = false): TreeEntry => ({
  kind: 'file',
  path,
  executable,
  digest: digestOf(content),
});
const symlink = (path: string, target: string): TreeEntry => ({ kind: 'symlink', path, target });
const digestOfAll = (...entries: TreeEntry[]): string =>
  layTree(entries, [{ from: '', to: '' }]).digest;

describe('a tree', () => {
  it('has the same digest and order whatever order the tarball had', () => {
    const entries = [file('b'), file('a/z'), symlink('a.c', 'b'), file('é'), file('Z')];
    const one = layTree(entries, [{ from: '', to: '' }]);
    const other = layTree(entries.toReversed(), [{ from: '', to: '' }]);
    expect(other).toEqual(one);
    expect(one.entries.map(({ path }) => path)).toEqual(['Z', 'a.c', 'a/z', 'b', 'é']);
  });

  it('has the digest of the lines it is documented to be made of', () => {
    const lines = `f ${digestOf('A')} a\nx ${digestOf('B')} b\nl ${digestOf('a')} c\n`;
    expect(digestOfAll(file('a', 'A'), file('b', 'B', true), symlink('c', 'a'))).toBe(
      digestOf(lines),
    );
  });

  it.each([
    ['a mode bit', file('a', 'A', true)],
    ['content', file('a', 'B')],
    ['a name', file('b', 'A')],
    ['a link in a file’s place', symlink('a', 'A')],
  ])('has another digest with another %s', (_, entry) => {
    expect(digestOfAll(entry)).not.toBe(digestOfAll(file('a', 'A')));
  });

  it('has another digest with another link target, or with one entry more', () => {
    expect(digestOfAll(symlink('a', 'b'))).not.toBe(digestOfAll(symlink('a', 'c')));
    expect(digestOfAll(file('a'), file('b'))).not.toBe(digestOfAll(file('a')));
  });

  it('leaves its entries’ own objects alone', () => {
    const entry = file('from/a');
    expect(layTree([entry], [{ from: 'from', to: 'to' }]).entries[0]?.path).toBe('to/a');
    expect(entry.path).toBe('from/a');
  });
});

describe('a layout', () => {
  it.each([
    ['takes the whole tarball to a directory', 'a/b', [{ from: '', to: 'x/y' }], 'x/y/a/b'],
    ['takes the whole tarball to the top', 'a/b', [{ from: '', to: '' }], 'a/b'],
    ['takes a directory to another', 'a/b/c', [{ from: 'a/b', to: 'x' }], 'x/c'],
    ['takes a directory to the top', 'a/b/c', [{ from: 'a', to: '' }], 'b/c'],
    ['leaves out what no move matches', 'b/c', [{ from: 'a', to: 'x' }], null],
    ['does not take a name for a directory it begins with', 'ab/c', [{ from: 'a', to: 'x' }], null],
    ['leaves out an entry in a directory’s place', 'a', [{ from: 'a', to: 'x' }], null],
    [
      'goes by the first move that matches',
      'a/b',
      [
        { from: 'a', to: 'first' },
        { from: '', to: 'second' },
      ],
      'first/b',
    ],
  ])('%s', (_, path, layout, moved) => {
    expect(movedPath(path, layout)).toBe(moved);
  });

  it.each([
    'init/main.o',
    'init/.main.o.cmd',
    'scripts/basic/.fixdep.d',
    'arch/x86/lib/lib.a',
    'fs/ext4/ext4.ko',
    'fs/ext4/ext4.mod',
    'fs/ext4/ext4.mod.c',
    'certs/signing_key.pem',
    'certs/x509.genkey',
  ])('of headers leaves out %s', (path) => {
    expect(movedPath(path, [{ from: '', to: 'x' }])).toBe(`x/${path}`);
    expect(movedPath(path, [{ from: '', to: 'x', headersOnly: true }])).toBeNull();
  });

  it.each([
    '.config',
    'vmlinux',
    'Module.symvers',
    'scripts/mod/modpost',
    'scripts/module.lds',
    'scripts/gcc-plugins/latent_entropy_plugin.so',
    'include/config/auto.conf.cmd',
    'certs/Kconfig',
    'init/main.c',
  ])('of headers keeps %s', (path) => {
    expect(movedPath(path, [{ from: '', to: 'x', headersOnly: true }])).toBe(`x/${path}`);
  });

  it('decides the digest, as left-out entries do not count', () => {
    const laid = layTree([file('keep/a', 'A'), file('drop/b')], [{ from: 'keep', to: '' }]);
    expect(laid.digest).toBe(digestOfAll(file('a', 'A')));
  });
});
