import { describe, expect, it } from '@jest/globals';
import { moduleExclusion, packageExclusion } from '../../services/core/source/dkms-exclusion.ts';
import { evaluatedConf, type ConfVariables } from './samples.ts';

const TARGET = { release: '6.1.0-56-amd64', arch: 'x86_64' };

const ofPackage = (variables: ConfVariables, release = TARGET.release): string | null =>
  packageExclusion(evaluatedConf(variables), { ...TARGET, release });
const ofModules = (variables: ConfVariables): (string | null)[] =>
  [0, 1, 2].map((index) => moduleExclusion(evaluatedConf(variables), index, TARGET));

describe('a package', () => {
  it.each([
    ['BUILD_EXCLUSIVE_KERNEL', '^5\\.', '6.1.0-56-amd64'],
    ['BUILD_EXCLUSIVE_ARCH', 'aarch64', 'x86_64'],
    ['BUILD_EXCLUSIVE_CONFIG', '!CONFIG_SMP', 'the kernel’s .config'],
  ])('with a %s that does not hold says why this kernel is excluded', (directive, is, fact) => {
    const reason = `${directive}="${is}" does not match ${fact}`;
    expect(ofPackage({ [directive]: is })).toBe(reason);
    expect(ofPackage({ [directive]: is, [`${directive}_HOLDS`]: 'yes' })).toBeNull();
  });

  it('that asks for nothing excludes nothing', () => {
    expect(ofPackage({})).toBeNull();
    expect(ofPackage({ BUILD_EXCLUSIVE_KERNEL: '', BUILD_EXCLUSIVE_KERNEL_MIN: '' })).toBeNull();
  });

  // The bounds of dkms(8)’s own examples are among them.
  it.each<['MIN' | 'MAX', string, string, boolean]>([
    ['MIN', '6.1.0-56-amd64', '6.1.0-56-amd64', true],
    ['MAX', '6.1.0-56-amd64', '6.1.0-56-amd64', true],
    ['MIN', '3.5', '3.5-rc2', true],
    ['MIN', '3.5', '3.6.18', true],
    ['MIN', '3.5', '3.4.999', false],
    ['MIN', '3.5-rc2', '3.5', false],
    ['MAX', '3.5', '3.5-rc2', false],
    ['MAX', '3.5-rc2', '3.5', true],
    ['MAX', '4.12', '4.11.999', true],
    ['MAX', '4.12', '3.9-rc5', true],
    ['MAX', '4.12', '4.12-rc1', false],
    ['MIN', '6.9', '6.10', true],
    ['MIN', '6.10', '6.9.12', false],
    ['MAX', '6.9', '6.10', false],
    ['MAX', '6.10', '6.9.12', true],
    ['MIN', '6.9-rc9', '6.9-rc10', true],
    ['MIN', '6.1', '6.1.0-56-amd64', true],
    ['MAX', '6.1', '6.1.0-56-amd64', false],
    ['MAX', '6.1.0-100', '6.1.0-56-amd64', true],
  ])('with a %s of %s for %s: %j', (end, limit, release, isInside) => {
    const directive = `BUILD_EXCLUSIVE_KERNEL_${end}`;
    expect(ofPackage({ [directive]: limit }, release)).toBe(
      isInside ? null : `${directive}="${limit}" leaves out ${release}`,
    );
  });

  it('between two bounds is for what lies between, both ends among it', () => {
    const bounds = { BUILD_EXCLUSIVE_KERNEL_MIN: '6.1', BUILD_EXCLUSIVE_KERNEL_MAX: '6.6' };
    const inside = ['6.0.9', '6.1', '6.5.13', '6.6', '6.6.1'].filter(
      (release) => ofPackage(bounds, release) === null,
    );
    expect(inside).toEqual(['6.1', '6.5.13', '6.6']);
  });

  it('that says what made it obsolete is for no later kernel, unless it says its bound itself', () => {
    const obsolete = { OBSOLETE_BY: '6.1.0-40' };
    expect(ofPackage(obsolete, '6.1.0-39-amd64')).toBeNull();
    expect(ofPackage(obsolete)).toBe('OBSOLETE_BY="6.1.0-40" leaves out 6.1.0-56-amd64');
    expect(ofPackage({ ...obsolete, BUILD_EXCLUSIVE_KERNEL_MAX: '6.6' })).toBeNull();
    const forOne = { ...obsolete, BUILD_EXCLUSIVE_KERNEL_MAX: { 1: '5.10' } };
    expect(ofPackage(forOne)).toBeNull();
  });
});

describe('a module among several', () => {
  const MIN = 'BUILD_EXCLUSIVE_KERNEL_MIN="6.2" leaves out 6.1.0-56-amd64';

  it('is excluded by the directive at its own index', () => {
    const variables = { BUILD_EXCLUSIVE_KERNEL_MIN: { 0: '5.4', 1: '6.2' } };
    expect(ofModules(variables)).toEqual([null, MIN, null]);
    expect(ofPackage(variables)).toBeNull();
  });

  // dkms(8): module 0 only for 5.x, module 1 only for 6.x.
  it('is excluded alone though it is the first', () => {
    const variables = {
      BUILD_EXCLUSIVE_KERNEL: { 0: '^5\\..*', 1: '^6\\..*' },
      BUILD_EXCLUSIVE_KERNEL_HOLDS: { 1: 'yes' },
    };
    expect(ofModules(variables)).toEqual([
      'BUILD_EXCLUSIVE_KERNEL="^5\\..*" does not match 6.1.0-56-amd64',
      null,
      null,
    ]);
    expect(ofPackage(variables)).toBeNull();
  });

  it('leaves a directive without further indices to the package', () => {
    const variables = { BUILD_EXCLUSIVE_KERNEL_MIN: '6.2' };
    expect(ofModules(variables)).toEqual([null, null, null]);
    expect(ofPackage(variables)).toBe(MIN);
  });

  it('does not make another directive speak for each', () => {
    const variables = {
      BUILD_EXCLUSIVE_KERNEL_MIN: '6.2',
      BUILD_EXCLUSIVE_ARCH: { 0: 'x86', 2: 'arm' },
      BUILD_EXCLUSIVE_ARCH_HOLDS: { 0: 'yes' },
    };
    expect(ofModules(variables)).toEqual([
      null,
      null,
      'BUILD_EXCLUSIVE_ARCH="arm" does not match x86_64',
    ]);
    expect(ofPackage(variables)).toBe(MIN);
  });
});
