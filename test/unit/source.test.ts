import { describe, expect, it } from '@jest/globals';
import { digestOf, shortDigest } from '../../services/core/digest.ts';
import type { ScannedArchive } from '../../services/core/kernel.ts';
import { inspectSource, isSourceEvidence } from '../../services/core/source.ts';
import { refusal, withinSeconds } from './samples.ts';

const CONF = 'PACKAGE_NAME="hello"\nPACKAGE_VERSION=1.0  # ours\n';

const scan = (files: Readonly<Record<string, string>>): ScannedArchive => ({
  entries: Object.entries(files).map(([path, text]) => ({
    kind: 'file',
    path,
    executable: false,
    digest: digestOf(text),
  })),
  evidence: new Map(
    Object.entries(files)
      .filter(([path]) => isSourceEvidence(path))
      .map(([path, text]) => [path, Buffer.from(text)]),
  ),
});

describe('a module’s source', () => {
  it('is found by its dkms.conf, wherever that lies', () => {
    const files = { 'dkms.conf': CONF, 'src/Makefile': '', 'hello.c': '' };
    const top = inspectSource(scan(files));
    const deep = inspectSource(
      scan({ 'a/b/dkms.conf': CONF, 'a/b/src/Makefile': '', 'a/b/hello.c': '', README: '' }),
    );
    expect(top.source).toMatchObject({ name: 'hello', version: '1.0', kind: 'dkms' });
    expect(top.tree.entries.map(({ path }) => path)).toEqual(Object.keys(files).sort());
    expect(deep.source).toEqual(top.source);
    expect(deep.layout).toEqual([{ from: 'a/b', to: '' }]);
  });

  it.each(['Kbuild', 'Makefile'])('is found by its %s where there is no dkms.conf', (name) => {
    const { source, tree } = inspectSource(scan({ [`src/${name}`]: 'obj-m := a.o' }));
    expect(source).toMatchObject({
      kind: 'kbuild',
      name: 'module',
      version: shortDigest(tree.digest),
    });
  });

  it('stands where its dkms.conf is, even below a Makefile', () => {
    const { source, layout } = inspectSource(scan({ Makefile: '', 'dkms/dkms.conf': CONF }));
    expect([source.kind, layout]).toEqual(['dkms', [{ from: 'dkms', to: '' }]]);
  });

  it.each([
    ['literal lines', 'other-2.0', CONF, {}, 'hello/1.0'],
    ['quoted literal lines', 'x', ' PACKAGE_NAME=\'a\'\nPACKAGE_VERSION="2"', {}, 'a/2'],
    ['a directory NAME-VERSION', 'r8125-9.011.00', 'PACKAGE_NAME=$(x)', {}, 'r8125/9.011.00'],
    ['a directory NAME-vVERSION', 'my-mod-v2.1-rc1', '', {}, 'my-mod/2.1-rc1'],
    ['the pusher', 'other-2.0', CONF, { name: 'given', version: '3~rc1' }, 'given/3~rc1'],
    ['the pusher and the conf', 'other-2.0', CONF, { version: '9' }, 'hello/9'],
    ['a directory, not the comment', 'd-4', '# PACKAGE_NAME=no\n', {}, 'd/4'],
    ['a directory, not shell', 'd-4', 'PACKAGE_NAME="$(reboot)"\n', {}, 'd/4'],
  ])('is named from %s', (_, directory, conf, given, named) => {
    const { source } = inspectSource(scan({ [`${directory}/dkms.conf`]: conf }), given);
    expect(`${source.name}/${source.version}`).toBe(named);
  });

  it('has an identity of its name, its version and its tree', () => {
    const digest = (conf: string, given: { name?: string; version?: string }): string =>
      inspectSource(scan({ 'dkms.conf': conf }), given).source.digest;
    const all = [
      digest(CONF, {}),
      digest(CONF, { name: 'hello2' }),
      digest(CONF, { version: '1.1' }),
      digest(`${CONF}\n`, {}),
    ];
    expect(new Set(all).size).toBe(4);
    expect(digest(CONF, { name: 'hello', version: '1.0' })).toBe(all[0]);
  });

  it.each([
    ['the top', '', 'sub/'],
    ['a directory', 'a/', 'b/c/'],
  ])('is the one in %s, nearer to the top than another', (_, near, far) => {
    const { source, layout } = inspectSource(
      scan({ [`${far}dkms.conf`]: 'PACKAGE_NAME=far', [`${near}dkms.conf`]: CONF }),
    );
    expect([source.name, layout]).toEqual(['hello', [{ from: near.replace('/', ''), to: '' }]]);
  });

  it.each([
    ['two dkms.conf side by side', { 'a/dkms.conf': CONF, 'b/dkms.conf': CONF }],
    ['two Makefiles side by side', { 'a/Makefile': '', 'b/Kbuild': '' }],
  ])('is refused with %s', (_, files) => {
    expect(() => inspectSource(scan(files))).toThrow(
      refusal('bad-source', /several module sources \(a, b\)/),
    );
  });

  it('is refused with nothing that says what to build', () => {
    expect(() => inspectSource(scan({ 'a.c': '', 'dkms.conf.in': CONF, makefile: '' }))).toThrow(
      refusal('bad-source', /neither a dkms\.conf nor a Kbuild or Makefile/),
    );
  });

  it.each(['', '..', '../x', 'a/b', '-a', '.a', 'a b', 'a;b', 'ä', `a${'b'.repeat(64)}`, 'a\n'])(
    'is refused by the name or version %j',
    (word) => {
      const archive = scan({ 'dkms.conf': CONF });
      for (const given of [{ name: word }, { version: word }]) {
        expect(() => inspectSource(archive, given)).toThrow(
          refusal('bad-source', /not a usable name and version/),
        );
      }
    },
  );

  it('with a dkms.conf of nothing but blank lines is read without delay', () => {
    const archive = scan({ 'd-1/dkms.conf': '\n'.repeat(200_000) });
    expect(withinSeconds(3, () => inspectSource(archive).source.name)).toBe('d');
  });
});
