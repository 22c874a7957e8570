import { describe, expect, it } from '@jest/globals';
import { readDkmsConf, type DkmsConf } from '../../services/core/source/dkms-conf.ts';
import { DKMS_VARIABLES } from '../../services/core/source/dkms-evaluation.ts';
import { evaluatedConf, refusal, type ConfVariables } from './samples.ts';

const TARGET = { release: '6.1.0-56-amd64', arch: 'x86_64' };

const LEAST = { PACKAGE_NAME: 'hello', PACKAGE_VERSION: '1.0', DEST_MODULE_LOCATION: '/extra' };
const read = (variables: ConfVariables): DkmsConf =>
  readDkmsConf(evaluatedConf({ ...LEAST, ...variables }), TARGET);

describe('a dkms.conf', () => {
  it('with the least it needs gets DKMS’s defaults', () => {
    expect(read({})).toEqual({
      name: 'hello',
      version: '1.0',
      make: null,
      clean: null,
      preBuild: null,
      postBuild: null,
      patches: [],
      dependencies: [],
      mayLink: true,
      passedOver: [],
      modules: [
        {
          builtName: 'hello',
          builtLocation: '',
          name: 'hello',
          strip: true,
        },
      ],
      excluded: null,
    });
  });

  it('may set what Kiln does not follow: each is named, but for one that says no', () => {
    const { passedOver } = read({
      MODPROBE_ON_INSTALL: ['yes'],
      REMAKE_INITRD: ['no'],
      MODULES_CONF: ['', 'alias a b'],
    });
    expect(passedOver).toEqual(['MODPROBE_ON_INSTALL', 'MODULES_CONF']);
  });

  it('may say that its modules are linked nowhere', () => {
    expect(read({ NO_WEAK_MODULES: ['yes'] }).mayLink).toBe(false);
    expect(read({ NO_WEAK_MODULES: ['no'] }).mayLink).toBe(true);
  });

  it('says all it can say', () => {
    const full = read({
      BUILT_MODULE_NAME: { 0: 'a', 1: 'b-c' },
      BUILT_MODULE_LOCATION: { 0: 'src', 1: 'lib/' },
      DEST_MODULE_NAME: { 1: 'd' },
      DEST_MODULE_LOCATION: { 0: '/kernel/drivers/net', 1: '/updates/dkms' },
      MAKE: 'make all',
      PRE_BUILD: 'configure --now',
      POST_BUILD: 'keep "$kernelver"',
    });
    expect(full).toMatchObject({
      make: 'make all',
      preBuild: 'configure --now',
      postBuild: 'keep "$kernelver"',
    });
    expect(full.modules).toMatchObject([
      { builtName: 'a', builtLocation: 'src/', name: 'a' },
      { builtName: 'b-c', builtLocation: 'lib/', name: 'd' },
    ]);
  });

  it.each<[string, Record<number, string>, Record<number, string>, number[], string | null]>([
    ['the last match', { 0: 'zero', 1: 'one', 2: 'two' }, { 1: 'a', 2: 'b' }, [1, 2], 'two'],
    ['MAKE[0] where none matches', { 0: 'zero', 1: 'one' }, { 1: 'a' }, [], 'zero'],
    ['MAKE[0] by its own match', { 0: 'zero' }, { 0: 'a' }, [0], 'zero'],
    ['the default where MAKE[0]’s own match fails', { 0: 'zero' }, { 0: 'a' }, [], null],
    ['no MAKE[1] without a match', { 0: 'zero', 1: 'one' }, {}, [], 'zero'],
  ])('takes of several MAKE %s', (_, MAKE, MAKE_MATCH, fitting, chosen) => {
    const MAKE_MATCH_HOLDS = Object.fromEntries(fitting.map((index) => [index, 'yes']));
    expect(read({ MAKE, MAKE_MATCH, MAKE_MATCH_HOLDS }).make).toBe(chosen);
  });

  it('applies the patches in order of index that match this kernel or any', () => {
    const { patches } = read({
      PATCH: { 2: 'third', 0: 'first', 1: 'old', 3: '' },
      PATCH_MATCH: { 1: '^5\\.', 2: 'amd64$' },
      PATCH_MATCH_HOLDS: { 2: 'yes' },
    });
    expect(patches).toEqual(['first', 'third']);
  });

  it.each([
    ['unset, every module', {}, [true, true, true]],
    ['no for the first, every module that says nothing', { 0: 'no' }, [false, false, false]],
    ['no for the first, not one that says yes', { 0: 'No', 2: 'yes' }, [false, false, true]],
    ['no for the second, it alone', { 1: 'n' }, [true, false, true]],
  ])('with STRIP %s: strips %j', (_, STRIP, stripped) => {
    const each = { 0: '/extra', 1: '/extra', 2: '/extra' };
    const { modules } = read({
      BUILT_MODULE_NAME: { 0: 'a', 1: 'b', 2: 'c' },
      DEST_MODULE_LOCATION: each,
      STRIP,
    });
    expect(modules.map(({ strip }) => strip)).toEqual(stripped);
  });

  it('may name a destination that climbs: it is where no host puts anything', () => {
    const { modules } = read({ DEST_MODULE_LOCATION: '/kernel/../updates/' });
    expect(modules).toHaveLength(1);
  });

  it('names the packages it is built against in order of index, without empty ones', () => {
    const BUILD_DEPENDS = { 2: 'spl', 0: 'zfs', 1: '' };
    expect(read({ BUILD_DEPENDS }).dependencies).toEqual(['zfs', 'spl']);
  });

  it.each<[string, ConfVariables]>([
    ['POST_ADD', { POST_ADD: 'x' }],
    ['PRE_INSTALL', { PRE_INSTALL: 'x' }],
    ['POST_INSTALL', { POST_INSTALL: 'x' }],
    ['POST_REMOVE', { POST_REMOVE: { 3: 'x' } }],
  ])(
    'with %s is passed over by that name, and the sandbox is asked for it',
    (directive, variables) => {
      expect(DKMS_VARIABLES).toContain(directive);
      expect(read(variables).passedOver).toEqual([directive]);
    },
  );

  it('with such a directive that is empty passes over nothing', () => {
    expect(read({ POST_INSTALL: '' }).passedOver).toEqual([]);
  });

  it.each<[string, RegExp, ConfVariables]>([
    ['a module name with .ko', /"a\.ko"; give the name alone/, { BUILT_MODULE_NAME: 'a.ko' }],
    ['a module name with a path', /a module "\.\.\/a"/, { BUILT_MODULE_NAME: '../a' }],
    ['an installed name with a path', /a module "a\/b"/, { DEST_MODULE_NAME: 'a/b' }],
    ['a name like an option', /a module "-\$x"/, { BUILT_MODULE_NAME: '-$x' }],
    ['a location above', /LOCATION\[0\] leaves/, { BUILT_MODULE_LOCATION: '../other' }],
    ['a location above, later', /LOCATION\[0\] leaves/, { BUILT_MODULE_LOCATION: 'a/../../b' }],
    ['an absolute location', /LOCATION\[0\] leaves/, { BUILT_MODULE_LOCATION: '/etc' }],
    ['a bad destination', /must begin with \/kernel/, { DEST_MODULE_LOCATION: '/etc' }],
    ['no destination', /must begin with \/kernel/, { DEST_MODULE_LOCATION: '' }],
    [
      'a module without a name',
      /does not set BUILT_MODULE_NAME\[0\]/,
      { DEST_MODULE_LOCATION: { 0: '/extra', 1: '/extra' } },
    ],
    [
      'two modules that are built as one file',
      /two modules with the same BUILT_MODULE_NAME a\/m; rename one$/,
      {
        BUILT_MODULE_NAME: { 0: 'm', 1: 'm' },
        BUILT_MODULE_LOCATION: { 0: 'a', 1: 'a/' },
        DEST_MODULE_NAME: { 1: 'n' },
        DEST_MODULE_LOCATION: { 0: '/extra', 1: '/extra' },
      },
    ],
    [
      'two modules that are installed under one name',
      /two modules with the same DEST_MODULE_NAME b; rename one$/,
      {
        BUILT_MODULE_NAME: { 0: 'a', 1: 'b' },
        DEST_MODULE_NAME: { 0: 'b' },
        DEST_MODULE_LOCATION: { 0: '/extra', 1: '/extra' },
      },
    ],
    [
      'too many modules',
      /lists 257 modules/,
      {
        BUILT_MODULE_NAME: Object.fromEntries(Array.from({ length: 257 }, (_, n) => [n, `m${n}`])),
      },
    ],
  ])('is refused with %s', (_, words, variables) => {
    expect(() => read(variables)).toThrow(refusal('bad-source', words));
  });
});

describe('a dkms.conf of several modules', () => {
  const three = (variables: ConfVariables): DkmsConf =>
    read({
      BUILT_MODULE_NAME: { 0: 'a', 1: 'b', 2: 'c' },
      DEST_MODULE_NAME: { 2: 'd' },
      DEST_MODULE_LOCATION: { 0: '/extra', 1: '/updates', 2: '/kernel/net' },
      STRIP: { 2: 'no' },
      ...variables,
    });

  it('leaves out the one that is not for this kernel; the others keep what is theirs', () => {
    const { excluded, modules } = three({
      BUILD_EXCLUSIVE_KERNEL: { 0: '^6', 1: '^5', 2: '^6' },
      BUILD_EXCLUSIVE_KERNEL_HOLDS: { 0: 'yes', 2: 'yes' },
    });
    expect(excluded).toBeNull();
    expect(modules).toMatchObject([
      { builtName: 'a', name: 'a', strip: true },
      { builtName: 'c', name: 'd', strip: false },
    ]);
  });

  it('is not excluded where it is the first that is left out', () => {
    const { excluded, modules } = three({ BUILD_EXCLUSIVE_KERNEL_MIN: { 0: '6.2', 1: '6.1' } });
    expect(excluded).toBeNull();
    expect(modules.map(({ builtName }) => builtName)).toEqual(['b', 'c']);
  });

  it('is excluded with the first’s reason where all are left out', () => {
    const { excluded, modules } = three({
      BUILD_EXCLUSIVE_KERNEL: { 0: '^3', 1: '^4', 2: '^5' },
    });
    expect(excluded).toBe('BUILD_EXCLUSIVE_KERNEL="^3" does not match 6.1.0-56-amd64');
    expect(modules).toEqual([]);
  });

  it('is excluded where different directives leave out each of them', () => {
    const { excluded } = three({
      BUILD_EXCLUSIVE_KERNEL_MIN: { 0: '6.2', 1: '6.1' },
      BUILD_EXCLUSIVE_KERNEL_MAX: { 1: '6.0', 2: '5.4' },
    });
    expect(excluded).toBe('BUILD_EXCLUSIVE_KERNEL_MIN="6.2" leaves out 6.1.0-56-amd64');
  });

  it('is excluded by a directive for the whole, whatever holds for each', () => {
    const { excluded } = three({
      BUILD_EXCLUSIVE_ARCH: 'aarch64',
      BUILD_EXCLUSIVE_KERNEL: { 0: '^5', 1: '^6', 2: '^6' },
      BUILD_EXCLUSIVE_KERNEL_HOLDS: { 1: 'yes', 2: 'yes' },
    });
    expect(excluded).toBe('BUILD_EXCLUSIVE_ARCH="aarch64" does not match x86_64');
  });

  it('is excluded by a directive for the whole, before those for each', () => {
    const { excluded } = three({
      BUILD_EXCLUSIVE_ARCH: 'aarch64',
      BUILD_EXCLUSIVE_KERNEL: { 0: '^3', 1: '^4', 2: '^5' },
    });
    expect(excluded).toBe('BUILD_EXCLUSIVE_ARCH="aarch64" does not match x86_64');
  });

  it('that names none of them for this kernel is excluded only where it says so', () => {
    const none = { BUILT_MODULE_NAME: {}, DEST_MODULE_NAME: {}, DEST_MODULE_LOCATION: {} };
    expect(three(none)).toMatchObject({ modules: [], excluded: null });
    expect(three({ ...none, BUILD_EXCLUSIVE_KERNEL_MIN: '6.2' }).excluded).toMatch(/leaves out/);
  });
});
