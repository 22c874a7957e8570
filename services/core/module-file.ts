import { elfArch, isElf } from './elf-machine.ts';
import { KilnError } from './errors.ts';
import type { Arch } from './kernel-config.ts';

/** What a `.ko` says of itself. */
export interface ModuleFile {
  readonly arch: Arch | null;
  /** `.modinfo` in its own order; keys such as `alias` and `parm` repeat. */
  readonly modinfo: readonly (readonly [key: string, value: string])[];
}

const MODINFO_LIMIT = 1024 * 1024;
const MODINFO_NAME = Buffer.from('.modinfo\0', 'latin1');

const bad = (message: string): KilnError => new KilnError('unverified', message);

/**
 * Reads a relocatable ELF file (source: elf(5), `include/linux/module.h`). Trusts no offset in it:
 * what points outside throws `KilnError('unverified')`.
 */
export const readModuleFile = (bytes: Buffer): ModuleFile => {
  if (!isElf(bytes)) throw bad('the file is not ELF');
  const isWide = bytes[4] === 2;
  const isLittle = bytes[5] === 1;
  const half = (at: number): number => (isLittle ? bytes.readUInt16LE(at) : bytes.readUInt16BE(at));
  const word = (at: number): number => (isLittle ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at));
  const long = (at: number): number => {
    if (!isWide) return word(at);
    return Number(isLittle ? bytes.readBigUInt64LE(at) : bytes.readBigUInt64BE(at));
  };
  if (half(16) !== 1) throw bad('the file is ELF, but no relocatable object');
  const table = long(isWide ? 40 : 32);
  const [entrySize, count, namesIndex] = isWide
    ? [half(58), half(60), half(62)]
    : [half(46), half(48), half(50)];
  const inside = (offset: number, size: number): void => {
    if (!Number.isSafeInteger(offset + size) || offset + size > bytes.length) {
      throw bad('the module is cut short: a section lies outside the file');
    }
  };
  if (entrySize < (isWide ? 64 : 40)) throw bad('the module’s section table is out of form');
  inside(table, entrySize * count);
  const section = (index: number): { name: number; offset: number; size: number } => {
    const at = table + index * entrySize;
    const [offset, size] = isWide ? [long(at + 24), long(at + 32)] : [word(at + 16), word(at + 20)];
    return { name: word(at), offset, size };
  };
  if (namesIndex >= count) throw bad('the module has no section names');
  const names = section(namesIndex);
  inside(names.offset, names.size);
  const isModinfo = (at: number): boolean =>
    at + MODINFO_NAME.length <= names.size &&
    bytes.compare(
      MODINFO_NAME,
      0,
      MODINFO_NAME.length,
      names.offset + at,
      names.offset + at + MODINFO_NAME.length,
    ) === 0;
  for (let index = 0; index < count; index += 1) {
    const found = section(index);
    if (!isModinfo(found.name)) continue;
    inside(found.offset, found.size);
    if (found.size > MODINFO_LIMIT) throw bad('the module’s .modinfo is over 1 MiB');
    const text = bytes.toString('utf8', found.offset, found.offset + found.size);
    return { arch: elfArch(bytes), modinfo: parseModinfo(text) };
  }
  throw bad('the file is no kernel module: it has no .modinfo section');
};

const parseModinfo = (text: string): [string, string][] =>
  text
    .split('\0')
    .filter((pair) => pair.includes('='))
    .map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]);

/** The first value of a modinfo key. */
export const modinfoValue = (module: ModuleFile, key: string): string | null =>
  module.modinfo.find(([name]) => name === key)?.[1] ?? null;

/** What a module must be to fit a kernel. */
export interface ModuleExpectation {
  readonly name: string;
  readonly arch: Arch;
  readonly vermagic: string;
}

/**
 * Checks that a module is the one expected, for the kernel expected. `-` and `_` are one letter in module names, as for modprobe.
 * Throws `KilnError('unverified')` saying what differs.
 */
export const checkModule = (module: ModuleFile, expected: ModuleExpectation): void => {
  const name = modinfoValue(module, 'name') ?? '';
  const vermagic = (modinfoValue(module, 'vermagic') ?? '').trim();
  if (name.replaceAll('-', '_') !== expected.name.replaceAll('-', '_')) {
    throw bad(`the module is called ${JSON.stringify(name)}, not ${JSON.stringify(expected.name)}`);
  }
  if (module.arch !== expected.arch) {
    throw bad(`module ${name} is for ${module.arch ?? 'an unknown CPU'}, not ${expected.arch}`);
  }
  if (vermagic !== expected.vermagic && !vermagic.startsWith(`${expected.vermagic} RANDSTRUCT`)) {
    throw bad(
      `module ${name} has vermagic "${vermagic}", but the kernel needs "${expected.vermagic}"`,
    );
  }
};
