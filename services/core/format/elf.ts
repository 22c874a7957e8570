import { KilnError } from '../errors.ts';
import type { Arch } from '../arch.ts';

/** ELF's `e_machine` as the CPU family that Kiln calls it (source: elf.h). */
const MACHINES: Readonly<Record<number, Arch>> = {
  3: 'i686',
  21: 'ppc64le',
  22: 's390x',
  40: 'armv7l',
  62: 'x86_64',
  183: 'aarch64',
  243: 'riscv64',
};

const ELF_MAGIC = 0x7f454c46;
const NAME_LIMIT = 512;

/** Tells whether bytes begin as an ELF file's do, with a whole header. */
export const isElf = (bytes: Buffer): boolean =>
  bytes.length >= 64 && bytes.readUInt32BE(0) === ELF_MAGIC;

/** The CPU an ELF file is for, or `null` if Kiln has no name for it. */
export const elfArch = (bytes: Buffer): Arch | null => {
  const machine = bytes[5] === 1 ? bytes.readUInt16LE(18) : bytes.readUInt16BE(18);
  return MACHINES[machine] ?? null;
};

/** A section: its place in the file, which is inside it, and the section it refers to. */
export interface ElfSection {
  readonly type: number;
  readonly offset: number;
  readonly size: number;
  readonly link: number;
}

/** A relocatable ELF file, with what is needed to read its tables. */
export interface ElfObject {
  readonly arch: Arch | null;
  readonly isWide: boolean;
  /** The first section of a name, or `null`. */
  find(name: string): ElfSection | null;
  /** The names of all sections that have bytes in the file. */
  names(): readonly string[];
  /** The first section of a type, or `null`. */
  findType(type: number): ElfSection | null;
  at(index: number): ElfSection;
  /** Numbers of 1, 2 and 4 bytes, in the file's own order. */
  byte(offset: number): number;
  half(offset: number): number;
  word(offset: number): number;
  /** An address or size: 8 bytes where the file is 64-bit, else 4. */
  long(offset: number): number;
  /** A NUL-ended string in a section, at most 512 bytes of it. */
  text(section: ElfSection, offset: number): string;
}

const bad = (message: string): KilnError => new KilnError('unverified', message);
/** `SHT_NOBITS`: a section that takes no room in the file. */
const NO_BITS = 8;

/**
 * Reads the section table of a relocatable ELF file (source: elf(5)). No offset in it is trusted: one that points outside the file throws
 * `KilnError('unverified')`.
 */
export const readElf = (bytes: Buffer): ElfObject => {
  if (!isElf(bytes)) throw bad('the file is not ELF');
  const isWide = bytes[4] === 2;
  const isLittle = bytes[5] === 1;
  const inside = (offset: number, size: number): void => {
    if (!Number.isSafeInteger(offset + size) || offset < 0 || offset + size > bytes.length) {
      throw bad('the module is cut short: a section lies outside the file');
    }
  };
  const half = (at: number): number => (isLittle ? bytes.readUInt16LE(at) : bytes.readUInt16BE(at));
  const word = (at: number): number => (isLittle ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at));
  const long = (at: number): number =>
    isWide ? Number(isLittle ? bytes.readBigUInt64LE(at) : bytes.readBigUInt64BE(at)) : word(at);
  if (half(16) !== 1) throw bad('the file is ELF, but no relocatable object');
  const table = long(isWide ? 40 : 32);
  const [entrySize, count, namesIndex] = isWide
    ? [half(58), half(60), half(62)]
    : [half(46), half(48), half(50)];
  if (entrySize < (isWide ? 64 : 40)) throw bad('the module’s section table is malformed');
  inside(table, entrySize * count);

  const at = (index: number): ElfSection => {
    if (index >= count) throw bad('the module refers to a section that is not there');
    const header = table + index * entrySize;
    const type = word(header + 4);
    const [offset, size] = isWide
      ? [long(header + 24), long(header + 32)]
      : [word(header + 16), word(header + 20)];
    if (type === NO_BITS) throw bad('the module refers to a section that is empty');
    inside(offset, size);
    return { type, offset, size, link: word(header + (isWide ? 40 : 24)) };
  };
  const text = (section: ElfSection, offset: number): string => {
    if (offset >= section.size) throw bad('the module has a name outside its table of names');
    const start = section.offset + offset;
    const end = Math.min(section.offset + section.size, start + NAME_LIMIT);
    const found = bytes.subarray(start, end);
    const length = found.indexOf(0);
    return found.toString('latin1', 0, length < 0 ? found.length : length);
  };
  if (namesIndex >= count) throw bad('the module has no section names');
  const names = at(namesIndex);
  const typeOf = (index: number): number => word(table + index * entrySize + 4);
  // Sections without bytes in the file cannot be read and are passed over.
  const first = (isIt: (index: number) => boolean): ElfSection | null => {
    for (let index = 0; index < count; index += 1)
      if (typeOf(index) !== NO_BITS && isIt(index)) return at(index);
    return null;
  };

  return {
    arch: elfArch(bytes),
    isWide,
    at,
    byte: (offset) => bytes.readUInt8(offset),
    half,
    word,
    long,
    text,
    names: () =>
      Array.from({ length: count }, (_, index) => index)
        .filter((index) => index > 0 && typeOf(index) !== NO_BITS)
        .map((index) => text(names, word(table + index * entrySize))),
    find: (name) =>
      first((index) => {
        const offset = word(table + index * entrySize);
        return offset < names.size && text(names, offset) === name;
      }),
    findType: (type) => first((index) => typeOf(index) === type),
  };
};

/** The names of the sections in which two relocatable ELF files differ, or that one of them lacks. */
export const differingSections = (one: Buffer, other: Buffer): readonly string[] => {
  const [a, b] = [readElf(one), readElf(other)];
  const bytesOf = (bytes: Buffer, section: ElfSection | null): Buffer | null =>
    section && bytes.subarray(section.offset, section.offset + section.size);
  return [...new Set([...a.names(), ...b.names()])].filter((name) => {
    const [mine, its] = [bytesOf(one, a.find(name)), bytesOf(other, b.find(name))];
    return mine === null || its === null || !mine.equals(its);
  });
};
