import { posix } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { shortDigest } from '../../services/core/digest.ts';
import {
  checkSettings,
  inspectSource,
  type Source,
  type SourceClaims,
} from '../../services/core/source/source.ts';
import { refusal, scanOf, withinSeconds } from './samples.ts';

const CONF = 'PACKAGE_NAME="hello"\nPACKAGE_VERSION=1.0  # ours\n';

const sourceOf = (conf: string, given: SourceClaims = {}): Source =>
  inspectSource(scanOf({ 'dkms.conf': conf }), given).source;
const digest = (conf: string, given: SourceClaims = {}): string => sourceOf(conf, given).digest;

describe('a module’s source', () => {
  it('is found by its dkms.conf, wherever that lies', () => {
    const files = { 'dkms.conf': CONF, 'src/Makefile': '', 'hello.c': '' };
    const top = inspectSource(scanOf(files));
    const deep = inspectSource(
      scanOf({ 'a/b/dkms.conf': CONF, 'a/b/src/Makefile': '', 'a/b/hello.c': '', README: '' }),
    );
    expect(top.source).toMatchObject({ name: 'hello', version: '1.0', kind: 'dkms' });
    expect(top.tree.entries.map(({ path }) => path)).toEqual(Object.keys(files).sort());
    expect(deep.source).toEqual(top.source);
    expect(deep.layout).toEqual([{ from: 'a/b', to: '' }]);
  });

  it.each([
    ['src/hello.rs', true],
    ['hello.rs.c', false],
    ['../README.rs', false],
  ])('has Rust in it with a file %s: %s', (path, hasRust) => {
    const beside = scanOf({ 'a/dkms.conf': CONF, [posix.join('a', path)]: '' });
    expect(inspectSource(beside).source.hasRust).toBe(hasRust);
  });

  it('is refused where dkms has packed built modules without it', () => {
    const scanned = scanOf({ 'dkms_binaries_only/dkms.conf': CONF });
    expect(() => inspectSource(scanned)).toThrow('dkms mktarball --source-only');
  });

  it.each(['Kbuild', 'Makefile'])('is found by its %s where there is no dkms.conf', (name) => {
    const { source, tree } = inspectSource(scanOf({ [`src/${name}`]: 'obj-m := a.o' }));
    expect(source).toMatchObject({
      kind: 'kbuild',
      name: 'module',
      version: shortDigest(tree.digest),
    });
  });

  it('stands where its dkms.conf is, even below a Makefile', () => {
    const { source, layout } = inspectSource(scanOf({ Makefile: '', 'dkms/dkms.conf': CONF }));
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
    const { source } = inspectSource(scanOf({ [`${directory}/dkms.conf`]: conf }), given);
    expect(`${source.name}/${source.version}`).toBe(named);
  });

  it('has an identity of its name, its version and its tree', () => {
    const all = [
      digest(CONF, {}),
      digest(CONF, { name: 'hello2' }),
      digest(CONF, { version: '1.1' }),
      digest(`${CONF}\n`, {}),
    ];
    expect(new Set(all).size).toBe(4);
    expect(digest(CONF, { name: 'hello', version: '1.0' })).toBe(all[0]);
  });

  it('has another identity with other dependencies, needs or settings', () => {
    const claims: SourceClaims[] = [
      {},
      { depends: ['a'] },
      { depends: ['a', 'b'] },
      { needs: ['a'] },
      { needs: ['a', 'b'] },
      { settings: { '/etc/dkms/a': 'a' } },
      { settings: { '/etc/dkms/a': 'b' } },
      { settings: { '/etc/dkms/b': 'a' } },
    ];
    expect(new Set(claims.map((given) => digest(CONF, given))).size).toBe(claims.length);
  });

  it('has the same identity whatever order its claims come in, and however often', () => {
    const claims = {
      depends: ['b', 'a'],
      needs: ['d', 'c'],
      settings: { '/etc/dkms/b': '1', '/etc/dkms/a': '2' },
    };
    const other = {
      depends: ['a', 'b', 'a'],
      needs: ['c', 'd', 'd'],
      settings: { '/etc/dkms/a': '2', '/etc/dkms/b': '1' },
    };
    expect(sourceOf(CONF, other)).toEqual(sourceOf(CONF, claims));
    expect(sourceOf(CONF, claims)).toMatchObject({
      ...claims,
      depends: ['a', 'b'],
      needs: ['c', 'd'],
    });
    expect(digest(CONF, { depends: [], needs: [], settings: {} })).toBe(digest(CONF));
  });

  it('that neither the pusher nor its conf says more of depends on, needs and sets nothing', () => {
    expect(sourceOf(CONF)).toMatchObject({
      autoinstall: false,
      depends: [],
      needs: [],
      settings: {},
    });
  });

  it.each([
    ['a plain word', 'BUILD_DEPENDS=zfs', ['zfs']],
    ['quoted', 'BUILD_DEPENDS="zfs"', ['zfs']],
    [
      'by index, in any order',
      "BUILD_DEPENDS[1]='spl'\n BUILD_DEPENDS[10]=a-b_c.d\n",
      ['a-b_c.d', 'spl'],
    ],
    ['with a comment behind', 'BUILD_DEPENDS[0]="zfs" # for spa.h', ['zfs']],
    ['with a carriage return behind', 'BUILD_DEPENDS[0]="zfs"\r', ['zfs']],
    ['as an array on one line', `BUILD_DEPENDS=("zfs" 'spl' a-b) # both`, ['a-b', 'spl', 'zfs']],
    ['as an array on several', 'BUILD_DEPENDS=( # these\n  "zfs" # one\n  spl\n)', ['spl', 'zfs']],
    ['added to', 'BUILD_DEPENDS=(zfs)\nBUILD_DEPENDS+=("spl")', ['spl', 'zfs']],
    ['as an array by shell', 'BUILD_DEPENDS=("$(reboot)" zfs $spl)', ['zfs']],
    ['as an array of nothing', 'BUILD_DEPENDS=()', []],
    ['twice', 'BUILD_DEPENDS[0]=zfs\nBUILD_DEPENDS[1]=zfs', ['zfs']],
    ['in a comment', '#BUILD_DEPENDS[0]=zfs', []],
    ['under a longer name', 'BUILD_DEPENDS_REBUILD=yes\nMY_BUILD_DEPENDS=zfs', []],
    ['by shell', 'BUILD_DEPENDS[0]="$(reboot)"\nBUILD_DEPENDS[1]=$zfs', []],
    ['with quotes that do not match', 'BUILD_DEPENDS[0]="zfs\'', []],
  ])('takes what its conf depends on, said %s: %j', (_, line, depends) => {
    expect(sourceOf(`${CONF}${line}\n`).depends).toEqual(depends);
  });

  it('depends on what the pusher says rather than on what its conf says', () => {
    const conf = `${CONF}BUILD_DEPENDS[0]=zfs\n`;
    expect(sourceOf(conf, { depends: ['spl'] }).depends).toEqual(['spl']);
    expect(sourceOf(conf, { depends: [] }).depends).toEqual([]);
  });

  it.each([
    ['the -dev ones', 'dkms, libelf-dev, make, firmware-misc-nonfree', ['libelf-dev']],
    [
      'the programs that builds run',
      'dkms (>= 2.1), python3:any, flex, autoconf (>= 2.69), python3-distutils, hello-utils, debconf',
      ['autoconf', 'flex', 'python3', 'python3-distutils'],
    ],
    [
      'without their versions',
      'zlib1g-dev (>= 1:1.2), libelf-dev:any',
      ['libelf-dev', 'zlib1g-dev'],
    ],
    ['the first of alternatives', 'libelf-dev | elfutils-dev, dkms | b-dev', ['libelf-dev']],
    ['each once', 'libelf-dev, libelf-dev (>= 1)', ['libelf-dev']],
    ['none that every toolchain has', 'libc6-dev | libc-dev, libc-dev, dpkg-dev', []],
    ['none of another field', 'dkms\nRecommends: libelf-dev', []],
    ['none where it has no dependency', '', []],
  ])('needs of its Debian package’s dependencies %s', (_, depends, needs) => {
    const scanned = scanOf({
      'usr/src/hello-1.0/dkms.conf': CONF,
      'DEBIAN/control': `Package: hello-dkms\nPre-Depends: pre-dev\nDepends: ${depends}\n`,
    });
    expect(inspectSource(scanned).source.needs).toEqual(needs);
    expect(inspectSource(scanned, { needs: ['a'] }).source.needs).toEqual(['a']);
    expect(inspectSource(scanned, { needs: [] }).source.needs).toEqual([]);
  });

  it('needs nothing by a control file of another place', () => {
    const control = 'Depends: libelf-dev\n';
    expect(
      inspectSource(
        scanOf({ 'dkms.conf': CONF, 'debian/control': control, 'a/DEBIAN/control': control }),
      ).source.needs,
    ).toEqual([]);
  });

  it('is refused where it depends on itself', () => {
    for (const work of [
      () => sourceOf(`${CONF}BUILD_DEPENDS[0]=hello\n`),
      () => sourceOf(CONF, { depends: ['abc', 'hello'] }),
      () => sourceOf(CONF, { name: 'zfs', depends: ['zfs'] }),
    ]) {
      expect(work).toThrow(refusal('bad-source', /depends on itself/));
    }
  });

  it.each([
    ['AUTOINSTALL=yes', true],
    ['AUTOINSTALL="yes"', true],
    ["\tAUTOINSTALL='YES'  # always", true],
    ['AUTOINSTALL=y', true],
    ['AUTOINSTALL="no"', false],
    ['AUTOINSTALL=""', false],
    ['# AUTOINSTALL="yes"', false],
    ['NOAUTOINSTALL="yes"', false],
    ['AUTOINSTALL="$(echo yes)"', false],
  ])('with %j is built for every new kernel: %j', (line, autoinstall) => {
    expect(sourceOf(`${CONF}${line}\n`).autoinstall).toBe(autoinstall);
  });

  it.each([
    ['the top', '', 'sub/'],
    ['a directory', 'a/', 'b/c/'],
  ])('is the one in %s, nearer to the top than another', (_, near, far) => {
    const { source, layout } = inspectSource(
      scanOf({ [`${far}dkms.conf`]: 'PACKAGE_NAME=far', [`${near}dkms.conf`]: CONF }),
    );
    expect([source.name, layout]).toEqual(['hello', [{ from: near.replace('/', ''), to: '' }]]);
  });

  it.each([
    ['two dkms.conf side by side', { 'a/dkms.conf': CONF, 'b/dkms.conf': CONF }],
    ['two Makefiles side by side', { 'a/Makefile': '', 'b/Kbuild': '' }],
  ])('is refused with %s', (_, files) => {
    expect(() => inspectSource(scanOf(files))).toThrow(
      refusal('bad-source', /several module sources \(a, b\)/),
    );
  });

  it('is refused with nothing that says what to build', () => {
    expect(() => inspectSource(scanOf({ 'a.c': '', 'dkms.conf.in': CONF, makefile: '' }))).toThrow(
      refusal('bad-source', /neither a dkms\.conf nor a Kbuild or Makefile/),
    );
  });

  it.each(['', '..', '../x', 'a/b', '-a', '.a', 'a b', 'a;b', 'ä', `a${'b'.repeat(64)}`, 'a\n'])(
    'is refused by the name or version %j',
    (word) => {
      const scanned = scanOf({ 'dkms.conf': CONF });
      for (const given of [{ name: word }, { version: word }]) {
        expect(() => inspectSource(scanned, given)).toThrow(
          refusal('bad-source', /not a usable name and version/),
        );
      }
    },
  );

  it('with a dkms.conf of nothing but blank lines is read without delay', () => {
    const scanned = scanOf({ 'd-1/dkms.conf': '\n'.repeat(200_000) });
    expect(withinSeconds(3, () => inspectSource(scanned).source.name)).toBe('d');
  });
});

it('a source that would stand where a kernel’s headers do is refused', () => {
  expect(() => sourceOf(CONF, { name: 'linux', version: 'headers-6.1.0-56-amd64' })).toThrow(
    refusal('bad-source', /version|another name/),
  );
  expect(() => sourceOf(CONF, { name: 'linux-kbuild', version: '6.1' })).toThrow(
    refusal('bad-source', /where a kernel’s headers stand/),
  );
});

describe('settings', () => {
  it.each([
    '/etc/sysconfig/zfs',
    '/etc/dkms/zfs.conf',
    '/etc/default/zfs',
    '/etc/dkms/r8125-9.011.00+dfsg_1.conf',
    '/etc/dkms/a/b/c/d',
    `/etc/dkms/${'a'.repeat(128)}`,
  ])('may lie at %s', (path) => {
    expect(checkSettings({ [path]: 'a' })).toEqual({ [path]: 'a' });
    expect(sourceOf(CONF, { settings: { [path]: 'a' } }).settings).toEqual({ [path]: 'a' });
  });

  it.each([
    '',
    'etc/a',
    '/etc',
    '/etc/',
    '/etc/dkms/a/',
    '/etc/dkms//a',
    '/etc/../a',
    '/etc/a/../../b',
    '/etc/dkms/./a',
    '/etc/dkms/.a',
    '/etc/dkms/-a',
    '/etcetera/a',
    '/usr/src/a',
    '/var/etc/a',
    '/etc/dkms/a b',
    '/etc/dkms/a:ro',
    '/etc/dkms/a,b',
    '/etc/dkms/ä',
    '/etc/dkms/a\n',
    '/etc/dkms/a\0',
    '/etc/dkms/a/b/c/d/e',
    '/etc/passwd',
    '/etc/ld.so.preload',
    '/etc/mtab',
    '/etc/default',
    `/etc/dkms/${'a'.repeat(129)}`,
  ])('may not lie at %j', (path) => {
    const settings = { '/etc/dkms/fine': '', [path]: '' };
    const words = /is not where a settings file can be; give one below \/etc/;
    expect(() => checkSettings(settings)).toThrow(refusal('bad-request', words));
    expect(() => sourceOf(CONF, { settings })).toThrow(refusal('bad-request', words));
  });

  it('are 64 KiB in all at the most, counted in bytes', () => {
    const half = 'é'.repeat(16 * 1024);
    expect(checkSettings({ '/etc/dkms/a': half, '/etc/dkms/b': half })).toHaveProperty(
      ['/etc/dkms/b'],
      half,
    );
    expect(() => checkSettings({ '/etc/dkms/a': half, '/etc/dkms/b': `${half}a` })).toThrow(
      refusal('bad-request', /over 65536 bytes/),
    );
  });

  it('may be 64 files and no more', () => {
    const files = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, index) => [`/etc/dkms/${index}`, '']));
    expect(Object.keys(checkSettings(files(64)))).toHaveLength(64);
    expect(() => checkSettings(files(65))).toThrow(
      refusal('bad-request', /there are 65 settings files; give 64 at most/),
    );
  });
});
