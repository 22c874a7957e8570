import { describe, expect, it } from '@jest/globals';
import { differingSections, elfArch, isElf } from '../../services/core/format/elf.ts';
import { hostProgram, moduleBytes } from './samples.ts';

describe('an ELF file', () => {
  it.each([
    [3, 'i686'],
    [21, 'ppc64le'],
    [22, 's390x'],
    [40, 'armv7l'],
    [62, 'x86_64'],
    [183, 'aarch64'],
    [243, 'riscv64'],
    [2, null],
    [0, null],
    [0xffff, null],
  ])('of machine %d is for %s', (machine, arch) => {
    expect(elfArch(hostProgram(machine))).toBe(arch);
  });

  it('says its machine in the order of its own bytes', () => {
    const big = hostProgram(0);
    big.writeUInt8(2, 5);
    big.writeUInt16BE(22, 18);
    expect(elfArch(big)).toBe('s390x');
    big.writeUInt8(1, 5);
    expect(elfArch(big)).toBeNull();
  });

  it('is known by how it begins and by its whole header', () => {
    const header = hostProgram(62).subarray(0, 64);
    expect(isElf(header)).toBe(true);
    expect(isElf(header.subarray(0, 63))).toBe(false);
    expect(isElf(Buffer.concat([Buffer.from('\n'), header]))).toBe(false);
    expect(isElf(Buffer.alloc(64, 'ELF'))).toBe(false);
    expect(isElf(Buffer.alloc(0))).toBe(false);
  });
});

describe('two modules', () => {
  it('differ in the sections whose bytes are not the same', () => {
    const one = moduleBytes(['license=GPL', 'drawn=1']);
    expect(differingSections(one, moduleBytes(['license=GPL', 'drawn=1']))).toEqual([]);
    expect(differingSections(one, moduleBytes(['license=GPL', 'drawn=2']))).toEqual(['.modinfo']);
    expect(differingSections(one, moduleBytes(['license=GPL', 'drawn=long']))).toEqual([
      '.modinfo',
    ]);
  });
});
