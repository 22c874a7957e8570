import { describe, expect, it } from '@jest/globals';
import { digestOf, hexOf } from '../../services/core/digest.ts';
import {
  differsFromLock,
  formatLock,
  parseControl,
  parseLock,
  ToolchainPackages,
} from '../../services/core/toolchain/toolchain-packages.ts';

const digest = digestOf('a package');
const LOCK = `libc6:amd64 1:2.36-9+deb12u10 ${hexOf(digest)}\nmake 4.3-4.1 ${hexOf(digest)}\n`;

describe('a packages.lock', () => {
  it('is read and written as it is', () => {
    expect(parseLock(LOCK)).toEqual([
      { name: 'libc6:amd64', version: '1:2.36-9+deb12u10', digest },
      { name: 'make', version: '4.3-4.1', digest },
    ]);
    expect(formatLock(parseLock(LOCK))).toBe(LOCK);
  });

  it.each([
    ['no hash', 'make 4.3-4.1'],
    ['a hash in part', 'make 4.3-4.1 0123'],
    ['an option of apt’s', `--help 1 ${hexOf(digest)}`],
    ['a path', `../make 1 ${hexOf(digest)}`],
    ['a version that is a path', `make ../1 ${hexOf(digest)}`],
    ['more words', `make 1 ${hexOf(digest)} 2`],
  ])('is refused with %s in a line', (_, line) => {
    expect(() => parseLock(`${LOCK}${line}\n`)).toThrow(/is not a line of a packages\.lock/);
  });
});

describe('a toolchain’s packages on the wire', () => {
  const packages = parseLock(LOCK);
  const description = { suite: 'bookworm', packages: ['make'] };

  it('have a description whose words may be words of commands', () => {
    const parse = (given: object): boolean =>
      ToolchainPackages.safeParse({ description: { ...description, ...given }, packages }).success;
    expect(parse({})).toBe(true);
    expect(parse({ suffix: '-19', name: 'debian-12-clang-19' })).toBe(true);
    expect(parse({ suffix: '-19; reboot' })).toBe(false);
    expect(parse({ suite: '--help' })).toBe(false);
    expect(parse({ packages: ['$(reboot)'] })).toBe(false);
    expect(parse({ from: '../other' })).toBe(false);
  });
});

describe('what a toolchain has', () => {
  const has = [
    { name: 'libc6', version: '1:2.36-9+deb12u10', arch: 'amd64' },
    { name: 'make', version: '4.3-4.1', arch: 'amd64' },
  ];

  it('is compared with a lock by name and version, both ways', () => {
    expect(differsFromLock(has, parseLock(LOCK))).toEqual([]);
    expect(differsFromLock(has, parseLock(LOCK).slice(1))).toEqual([
      'the toolchain has libc6 1:2.36-9+deb12u10, which is missing',
    ]);
    expect(differsFromLock(has.slice(1), parseLock(LOCK))).toEqual([
      'libc6 1:2.36-9+deb12u10 is not in the toolchain',
    ]);
  });
});

describe('a package’s control file', () => {
  it('says what it is', () => {
    const control =
      'Package: make\nVersion: 4.3-4.1\nArchitecture: amd64\nDescription: utility\n Package: not this\n';
    expect(parseControl(control)).toEqual({ name: 'make', version: '4.3-4.1', arch: 'amd64' });
  });

  it.each(['', 'Package: make\n', 'Package: make\nVersion: 1\n'])('is refused as %j', (control) => {
    expect(() => parseControl(control)).toThrow(/lacks its name, version or architecture/);
  });
});
