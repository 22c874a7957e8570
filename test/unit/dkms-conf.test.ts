import { describe, expect, it } from '@jest/globals';
import {
  DKMS_VARIABLES,
  parseEvaluation,
  readDkmsConf,
  type DkmsConf,
  type EvaluatedConf,
} from '../../services/core/dkms-conf.ts';
import { refusal } from './samples.ts';

const TARGET = { release: '6.1.0-56-amd64', arch: 'x86_64' };

/** A conf from bash arrays; a bare word stands for the value at index 0. */
const conf = (
  variables: Readonly<Record<string, string | Readonly<Record<number, string>>>>,
): EvaluatedConf =>
  new Map(
    Object.entries(variables).map(([name, value]) => [
      name,
      new Map(
        Object.entries(typeof value === 'string' ? { 0: value } : value).map(
          ([index, text]): [number, string] => [Number(index), text],
        ),
      ),
    ]),
  );

const LEAST = { PACKAGE_NAME: 'hello', PACKAGE_VERSION: '1.0', DEST_MODULE_LOCATION: '/extra' };
const read = (variables: Parameters<typeof conf>[0]): DkmsConf =>
  readDkmsConf(conf({ ...LEAST, ...variables }), TARGET);

describe('the evaluation’s answer', () => {
  it('is read as arrays by index, with whatever bytes a value has', () => {
    const answer = parseEvaluation(
      Buffer.from('PACKAGE_NAME\x000\x00hello\x00MAKE\x002\x00make\n"all"\x00MAKE\x000\x00\x00'),
    );
    expect(answer).toEqual(conf({ PACKAGE_NAME: 'hello', MAKE: { 2: 'make\n"all"', 0: '' } }));
  });

  it('is empty where there is no dkms.conf', () => {
    expect(parseEvaluation(Buffer.alloc(0)).size).toBe(0);
  });

  it.each([
    ['an unknown variable', 'LD_PRELOAD\x000\x00x\x00'],
    ['an index that is no number', 'MAKE\x00key\x00x\x00'],
    ['a huge index', 'MAKE\x0012345\x00x\x00'],
    ['a negative index', 'MAKE\x00-1\x00x\x00'],
    ['a name alone', 'MAKE\x00'],
    ['a value cut short', 'MAKE\x000\x00make al'],
    ['no value', 'MAKE\x000\x00'],
    ['no field at all', 'bash: dkms.conf: line 1'],
  ])('is refused with %s', (_, answer) => {
    expect(() => parseEvaluation(Buffer.from(answer))).toThrow(
      refusal('bad-source', /out of form/),
    );
  });
});

describe('a dkms.conf', () => {
  it('with the least it needs gets DKMS’s defaults', () => {
    expect(read({})).toEqual({
      name: 'hello',
      version: '1.0',
      make: null,
      clean: null,
      preBuild: null,
      patches: [],
      modules: [
        {
          builtName: 'hello',
          builtLocation: '',
          name: 'hello',
          destination: '/extra',
          strip: true,
        },
      ],
      excluded: null,
    });
  });

  it('says all it can say', () => {
    const full = read({
      BUILT_MODULE_NAME: { 0: 'a', 1: 'b-c' },
      BUILT_MODULE_LOCATION: { 0: 'src', 1: 'lib/' },
      DEST_MODULE_NAME: { 1: 'd' },
      DEST_MODULE_LOCATION: { 0: '/kernel/drivers/net', 1: '/updates/dkms' },
      MAKE: 'make all',
      CLEAN: 'make clean',
      PRE_BUILD: 'configure',
    });
    expect(full).toMatchObject({ make: 'make all', clean: 'make clean', preBuild: 'configure' });
    expect(full.modules).toMatchObject([
      { builtName: 'a', builtLocation: 'src/', name: 'a', destination: '/kernel/drivers/net' },
      { builtName: 'b-c', builtLocation: 'lib/', name: 'd', destination: '/updates/dkms' },
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

  it.each([
    ['BUILD_EXCLUSIVE_KERNEL', '^5\\.', '6.1.0-56-amd64'],
    ['BUILD_EXCLUSIVE_ARCH', 'aarch64', 'x86_64'],
  ])('with %s says why this kernel is excluded', (directive, pattern, actual) => {
    expect(read({ [directive]: pattern }).excluded).toBe(
      `${directive}="${pattern}" does not match ${actual}`,
    );
  });

  it('with BUILD_EXCLUSIVE_* that match excludes nothing', () => {
    const { excluded } = read({
      BUILD_EXCLUSIVE_KERNEL: '^(5\\.1[0-9]|6)\\..*',
      BUILD_EXCLUSIVE_ARCH: 'x86',
      BUILD_EXCLUSIVE_KERNEL_HOLDS: 'yes',
      BUILD_EXCLUSIVE_ARCH_HOLDS: 'yes',
    });
    expect(excluded).toBeNull();
  });

  it.each([
    'BUILD_DEPENDS',
    'POST_BUILD',
    'BUILD_EXCLUSIVE_KERNEL_MIN',
    'BUILD_EXCLUSIVE_KERNEL_MAX',
    'BUILD_EXCLUSIVE_CONFIG',
  ])('with %s is refused by that name, and the sandbox is asked for it', (directive) => {
    expect(DKMS_VARIABLES).toContain(directive);
    expect(() => read({ [directive]: 'x' })).toThrow(
      refusal('bad-source', new RegExp(`uses ${directive}, which`)),
    );
  });

  it.each<[string, RegExp, Parameters<typeof conf>[0]]>([
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
      /no BUILT_MODULE_NAME\[0\]/,
      { DEST_MODULE_LOCATION: { 0: '/extra', 1: '/extra' } },
    ],
    [
      'a destination that climbs',
      /must begin with \/kernel/,
      { DEST_MODULE_LOCATION: '/extra/../../etc' },
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
