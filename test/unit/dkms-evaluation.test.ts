import { describe, expect, it } from '@jest/globals';
import {
  DKMS_VARIABLES,
  holds,
  parseEvaluation,
  PASSED_OVER,
  valueAt,
  valuesOf,
} from '../../services/core/source/dkms-evaluation.ts';
import { evaluatedConf, refusal } from './samples.ts';

describe('the evaluation’s answer', () => {
  it('is read as arrays by index, with whatever bytes a value has', () => {
    const answer = parseEvaluation(
      Buffer.from('PACKAGE_NAME\x000\x00hello\x00MAKE\x002\x00make\n"all"\x00MAKE\x000\x00\x00'),
    );
    expect(answer).toEqual(
      evaluatedConf({ PACKAGE_NAME: 'hello', MAKE: { 2: 'make\n"all"', 0: '' } }),
    );
  });

  it('is empty where there is no dkms.conf', () => {
    expect(parseEvaluation(Buffer.alloc(0)).size).toBe(0);
  });

  it.each([
    ['an unknown variable', 'LD_PRELOAD\x000\x00x\x00'],
    ['an answer for what is no pattern', 'MAKE_HOLDS\x000\x00yes\x00'],
    ['an index left out', 'MAKE\x00\x00x\x00'],
    ['an index that is no number', 'MAKE\x00key\x00x\x00'],
    ['a huge index', 'MAKE\x0012345\x00x\x00'],
    ['a negative index', 'MAKE\x00-1\x00x\x00'],
    ['a name alone', 'MAKE\x00'],
    ['a value cut short', 'MAKE\x000\x00make al'],
    ['no value', 'MAKE\x000\x00'],
    ['no field at all', 'bash: dkms.conf: line 1'],
  ])('is refused with %s', (_, answer) => {
    expect(() => parseEvaluation(Buffer.from(answer))).toThrow(refusal('bad-source', /malformed/));
  });
});

describe('the variables asked for', () => {
  it('are each asked for once, those that are passed over among them', () => {
    expect(new Set(DKMS_VARIABLES).size).toBe(DKMS_VARIABLES.length);
    expect(DKMS_VARIABLES).toEqual(expect.arrayContaining(Object.keys(PASSED_OVER)));
  });

  it.each([
    'PRE_BUILD',
    'POST_BUILD',
    'BUILD_DEPENDS',
    'BUILD_EXCLUSIVE_KERNEL_MIN',
    'BUILD_EXCLUSIVE_KERNEL_MAX',
    'STRIP',
  ])('have %s among them, which is no pattern', (name) => {
    expect(DKMS_VARIABLES).toContain(name);
    expect(() => parseEvaluation(Buffer.from(`${name}_HOLDS\x000\x00yes\x00`))).toThrow(
      refusal('bad-source', /malformed/),
    );
  });

  it.each([
    'MAKE_MATCH',
    'PATCH_MATCH',
    'BUILD_EXCLUSIVE_KERNEL',
    'BUILD_EXCLUSIVE_ARCH',
    'BUILD_EXCLUSIVE_CONFIG',
  ])('have %s among them, and an answer whether it holds', (pattern) => {
    expect(DKMS_VARIABLES).toContain(pattern);
    const answer = parseEvaluation(Buffer.from(`${pattern}_HOLDS\x002\x00yes\x00`));
    expect(answer).toEqual(evaluatedConf({ [`${pattern}_HOLDS`]: { 2: 'yes' } }));
  });
});

describe('a value', () => {
  const conf = evaluatedConf({ PATCH: { 10: 'last', 2: 'second', 0: 'first', 1: '' } });

  it('is the one at its index, at 0 where none is named, and empty where it is not set', () => {
    expect([valueAt(conf, 'PATCH'), valueAt(conf, 'PATCH', 2)]).toEqual(['first', 'second']);
    expect([valueAt(conf, 'PATCH', 5), valueAt(conf, 'CLEAN')]).toEqual(['', '']);
  });

  it('comes with the others in order of their numbers, without empty ones', () => {
    expect(valuesOf(conf, 'PATCH')).toEqual([
      [0, 'first'],
      [2, 'second'],
      [10, 'last'],
    ]);
    expect(valuesOf(conf, 'CLEAN')).toEqual([]);
  });
});

describe('a pattern', () => {
  it.each<[string, Parameters<typeof evaluatedConf>[0], boolean, boolean]>([
    ['holds where bash says so', { PATCH_MATCH: 'a', PATCH_MATCH_HOLDS: 'yes' }, false, true],
    ['does not hold where bash says nothing', { PATCH_MATCH: 'a' }, true, false],
    ['does not hold by another word', { PATCH_MATCH: 'a', PATCH_MATCH_HOLDS: 'no' }, true, false],
    [
      'does not hold by another index',
      { PATCH_MATCH: 'a', PATCH_MATCH_HOLDS: { 1: 'yes' } },
      true,
      false,
    ],
    ['is as the caller says where there is none', {}, true, true],
    ['is as the caller says where it is empty', { PATCH_MATCH: '' }, false, false],
    ['that is empty cannot be said to hold', { PATCH_MATCH_HOLDS: 'yes' }, false, false],
  ])('%s', (_, variables, ifNone, expected) => {
    expect(holds(evaluatedConf(variables), 'PATCH_MATCH', 0, ifNone)).toBe(expected);
  });
});
