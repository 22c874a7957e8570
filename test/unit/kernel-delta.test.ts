import { describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import {
  KernelDelta,
  kernelDelta,
  manifestOf,
  parseManifest,
  takenFromBase,
  travelling,
  type NamedTree,
} from '../../services/core/kernel/kernel-delta.ts';
import { layTree, type TreeEntry } from '../../services/core/tree/tree.ts';
import { refusal } from './samples.ts';

const file = (path: string, text: string, executable = false): TreeEntry => ({
  kind: 'file',
  path,
  executable,
  digest: digestOf(text),
});
const tree = (release: string, entries: readonly TreeEntry[]): NamedTree => ({
  release,
  entries: layTree(entries, [{ from: '', to: '' }]).entries,
});

const old = tree('6.1.0-55-amd64', [
  file('usr/src/linux-headers-6.1.0-55-amd64/.config', 'old'),
  file('usr/src/linux-headers-6.1.0-55-common/a.h', 'a'),
  file('usr/src/linux-headers-6.1.0-55-common/b.h', 'b'),
  file('usr/src/linux-headers-6.1.0-55-common/c.h', 'c'),
  { kind: 'symlink', path: 'usr/src/x', target: '/usr/src/linux-headers-6.1.0-55-common' },
]);
const next = tree('6.1.0-56-amd64', [
  file('usr/src/linux-headers-6.1.0-56-amd64/.config', 'new'),
  file('usr/src/linux-headers-6.1.0-56-common/a.h', 'a'),
  file('usr/src/linux-headers-6.1.0-56-common/b.h', 'b', true),
  file('usr/src/linux-headers-6.1.0-56-common/moved.h', 'c'),
  { kind: 'symlink', path: 'usr/src/x', target: '/usr/src/linux-headers-6.1.0-56-common' },
]);

describe('a delta between kernels', () => {
  const delta = kernelDelta(old, next);

  it('makes travel what is new alone: other bytes, another mode', () => {
    expect([...travelling(delta)]).toEqual([
      'usr/src/linux-headers-6.1.0-56-amd64/.config',
      'usr/src/linux-headers-6.1.0-56-common/b.h',
    ]);
  });

  it('gives with the base and what travels the new tree again', () => {
    const there = takenFromBase(KernelDelta.parse(JSON.parse(JSON.stringify(delta))), old.entries);
    const sent = next.entries.filter(({ path }) => travelling(delta).has(path));
    const made = layTree([...there.map(({ entry }) => entry), ...sent], [{ from: '', to: '' }]);
    expect(made.entries).toEqual(next.entries);
  });

  it('is short for trees that are the same but for their release', () => {
    const renamed = tree(
      '6.1.0-57-amd64',
      old.entries.map((entry) =>
        entry.kind === 'file'
          ? { ...entry, path: entry.path.replace('-55-', '-57-') }
          : { ...entry, target: entry.target.replace('-55-', '-57-') },
      ),
    );
    expect(kernelDelta(old, renamed).steps).toEqual([[0, 5]]);
  });

  it.each([[[[4, 2]]], [[[9, 'usr/src/x']]]])(
    'is refused where it reaches beyond its base',
    (steps) => {
      const wrong = KernelDelta.parse({ from: '6.1.0-55-amd64', to: '6.1.0-56-amd64', steps });
      expect(() => takenFromBase(wrong, old.entries)).toThrow(
        refusal('bad-tarball', /its base does not have/),
      );
    },
  );
});

it.each<[string, object, RegExp | null]>([
  ['too many steps', { steps: Array.from({ length: 200_001 }, () => 'x') }, null],
  ['a release that is none', { from: '' }, null],
  [
    'few steps that make too many entries',
    { steps: Array.from({ length: 60_000 }, () => [0, 5]) },
    /over 200000 entries/,
  ],
])('a delta with %s is refused', (_, change, words) => {
  const parsed = KernelDelta.safeParse({ from: '6.1.0', to: '6.1.1', steps: [], ...change });
  if (words === null) expect(parsed.success).toBe(false);
  else
    expect(() => takenFromBase(KernelDelta.parse(parsed.data), old.entries)).toThrow(
      refusal('too-large', words),
    );
});

it('a list of files is read as it was written', () => {
  const odd: TreeEntry = { kind: 'symlink', path: 'a\u2028b', target: '../x y\u00e9' };
  expect(parseManifest(manifestOf([...next.entries, odd]))).toEqual([...next.entries, odd]);
});
