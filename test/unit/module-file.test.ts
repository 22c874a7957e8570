import { describe, expect, it } from '@jest/globals';
import { KilnError } from '../../services/core/errors.ts';
import {
  checkModule,
  modinfoValue,
  readModuleFile,
  type ModuleExpectation,
} from '../../services/core/module/module-file.ts';
import { debianKernel, refusal, withinSeconds } from './samples.ts';

const MODINFO = [
  'license=GPL',
  'alias=pci:v1',
  'alias=pci:v2',
  'parm=on:a=b',
  'name=my_mod',
  `vermagic=${debianKernel.vermagic} `,
];

interface Shape {
  readonly machine?: number;
  readonly isWide?: boolean;
  readonly isLittle?: boolean;
  readonly type?: number;
  readonly modinfo?: readonly string[];
  readonly sectionName?: string;
}

/** A relocatable ELF file of three sections: the null one, .modinfo and the names; its section table comes last. */
const elf = ({
  machine = 62,
  isWide = true,
  isLittle = true,
  type = 1,
  modinfo = MODINFO,
  sectionName = '.modinfo',
}: Shape = {}): Buffer => {
  const names = Buffer.from(`\0${sectionName}\0.shstrtab\0`);
  const info = Buffer.from(modinfo.map((pair) => `${pair}\0`).join(''));
  const [head, entry] = isWide ? [64, 64] : [52, 40];
  const table = head + names.length + info.length;
  const bytes = Buffer.concat([Buffer.alloc(head), names, info, Buffer.alloc(3 * entry)]);
  const put = (at: number, size: number, value: number): void => {
    if (isLittle) bytes.writeUIntLE(value, at, Math.min(size, 6));
    else bytes.writeUIntBE(value, at + Math.max(size - 6, 0), Math.min(size, 6));
  };
  bytes.write('\x7fELF', 'latin1');
  bytes.set([isWide ? 2 : 1, isLittle ? 1 : 2, 1], 4);
  put(16, 2, type);
  put(18, 2, machine);
  put(isWide ? 40 : 32, isWide ? 8 : 4, table);
  [entry, 3, 2].forEach((value, index) => put((isWide ? 58 : 46) + 2 * index, 2, value));
  const section = (index: number, name: number, offset: number, size: number): void => {
    const at = table + index * entry;
    put(at, 4, name);
    put(at + (isWide ? 24 : 16), isWide ? 8 : 4, offset);
    put(at + (isWide ? 32 : 20), isWide ? 8 : 4, size);
  };
  section(1, 1, head + names.length, info.length);
  section(2, sectionName.length + 2, head, names.length);
  return bytes;
};

/** The file with one little-endian field overwritten; negative places count from its end. */
const withField = (at: number, size: 2 | 4 | 8, value: bigint): Buffer => {
  const bytes = elf();
  const place = at < 0 ? bytes.length + at : at;
  const field = Buffer.alloc(8);
  field.writeBigUInt64LE(value);
  field.copy(bytes, place, 0, size);
  return bytes;
};

it('refuses a module whose .modinfo would fill the memory', () => {
  const modinfo = Array.from({ length: 300_000 }, () => 'a=b');
  expect(() => readModuleFile(elf({ modinfo }))).toThrow(refusal('unverified', /over 1 MiB/));
});

describe('a module’s file', () => {
  it.each<[string, Shape]>([
    ['x86_64', {}],
    ['aarch64', { machine: 183 }],
    ['s390x', { machine: 22, isLittle: false }],
    ['i686', { machine: 3, isWide: false }],
    [null as unknown as string, { machine: 2 }],
  ])('for %s is read with its modinfo in order', (arch, shape) => {
    const module = readModuleFile(elf(shape));
    expect(module.arch).toBe(arch);
    expect(module.modinfo.map(([key, value]) => `${key}=${value}`)).toEqual(MODINFO);
    expect(modinfoValue(module, 'alias')).toBe('pci:v1');
    expect(modinfoValue(module, 'parm')).toBe('on:a=b');
    expect(modinfoValue(module, 'nothing')).toBeNull();
  });

  it.each<[string, RegExp, Buffer]>([
    ['nothing', /not ELF/, Buffer.alloc(0)],
    ['text', /not ELF/, Buffer.alloc(100, 'x')],
    ['a program', /no relocatable object/, elf({ type: 2 })],
    ['an object without .modinfo', /no \.modinfo section/, elf({ sectionName: '.comment' })],
  ])('is not %s', (_, words, bytes) => {
    expect(() => readModuleFile(bytes)).toThrow(refusal('unverified', words));
  });

  it.each<[string, Buffer]>([
    ['a section table beyond the file', withField(40, 8, 1n << 40n)],
    ['a section table beyond all numbers', withField(40, 8, (1n << 64n) - 1n)],
    ['a section table that ends beyond the file', withField(60, 2, 4n)],
    ['the most sections there can be', withField(60, 2, 0xffffn)],
    ['no sections', withField(60, 2, 0n)],
    ['sections of no size', withField(58, 2, 0n)],
    ['sections too small', withField(58, 2, 63n)],
    ['no such section of names', withField(62, 2, 3n)],
    ['names beyond the file', withField(-64 + 24, 8, 1n << 32n)],
    ['names of a size beyond the file', withField(-64 + 32, 8, (1n << 64n) - 1n)],
    ['a name beyond the names', withField(-128, 4, 0xffffffffn)],
    ['modinfo beyond the file', withField(-128 + 24, 8, (1n << 63n) + 1n)],
    ['modinfo of a size beyond the file', withField(-128 + 32, 8, 100_000n)],
  ])('is refused with %s', (_, bytes) => {
    expect(() => readModuleFile(bytes)).toThrow(refusal('unverified', /./));
  });

  it.each<[string, Shape]>([
    ['64-bit', {}],
    ['32-bit', { isWide: false, machine: 3 }],
  ])('that is %s is refused wherever it is cut, never thrown at as out of range', (_, shape) => {
    const whole = elf(shape);
    for (let length = 0; length < whole.length; length += 1) {
      expect(() => readModuleFile(whole.subarray(0, length))).toThrow(KilnError);
    }
  });

  it('is read or refused, but no other error comes, whichever byte of it is spoiled', () => {
    const whole = elf();
    for (let at = 0; at < whole.length; at += 1) {
      for (const value of [0x00, 0x7f, 0xff]) {
        const spoiled = Buffer.from(whole);
        spoiled[at] = value;
        try {
          readModuleFile(spoiled);
        } catch (error) {
          expect(error).toBeInstanceOf(KilnError);
        }
      }
    }
  });

  it('with endless names for many sections is done with at once', () => {
    const [count, size] = [0xffff, 4 << 20];
    const bytes = Buffer.alloc(64 + 64 * count + size, 'A');
    bytes.fill(0, 64, 64 + 64 * count);
    elf().copy(bytes, 0, 0, 64);
    bytes.writeBigUInt64LE(64n, 40);
    bytes.writeUInt16LE(count, 60);
    bytes.writeUInt16LE(1, 62);
    bytes.writeBigUInt64LE(BigInt(64 + 64 * count), 128 + 24);
    bytes.writeBigUInt64LE(BigInt(size), 128 + 32);
    bytes[bytes.length - 1] = 0;
    const read = (): unknown => withinSeconds(3, () => readModuleFile(bytes));
    expect(read).toThrow(refusal('unverified', /no \.modinfo/));
  });
});

describe('checking a module', () => {
  const expected: ModuleExpectation = {
    name: 'my_mod',
    arch: 'x86_64',
    vermagic: debianKernel.vermagic,
  };
  const check = (modinfo: readonly string[], change: Partial<ModuleExpectation> = {}): void =>
    checkModule(readModuleFile(elf({ modinfo })), { ...expected, ...change });

  it('passes the one expected, by - or _ alike', () => {
    expect(() => check(MODINFO)).not.toThrow();
    expect(() => check(MODINFO, { name: 'my-mod' })).not.toThrow();
  });

  it('passes the hash that a kernel with randstruct adds to its vermagic', () => {
    const seed = `vermagic=${expected.vermagic} RANDSTRUCT_PLUGIN_0123456789abcdef`;
    expect(() => check(['name=my_mod', seed])).not.toThrow();
  });

  it.each<[string, RegExp, string[], Partial<ModuleExpectation>]>([
    ['another name', /called "my_mod", not "other"/, MODINFO, { name: 'other' }],
    ['no name', /called "", not "my_mod"/, ['license=GPL'], {}],
    ['another architecture', /is for x86_64, not aarch64/, MODINFO, { arch: 'aarch64' }],
    ['another vermagic', /kernel needs "6\.2 SMP"/, MODINFO, { vermagic: '6.2 SMP' }],
    [
      'a vermagic with more behind',
      /kernel needs/,
      ['name=my_mod', `vermagic=${expected.vermagic}x`],
      {},
    ],
    ['no vermagic', /has vermagic ""/, ['name=my_mod'], {}],
  ])('refuses %s', (_, words, modinfo, change) => {
    expect(() => check(modinfo, change)).toThrow(refusal('unverified', words));
  });
});
