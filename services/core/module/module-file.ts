import { readElf, type ElfObject } from '../format/elf.ts';
import { KilnError } from '../errors.ts';
import type { Arch } from '../arch.ts';

/** What a `.ko` says of itself. */
export interface ModuleFile {
  readonly arch: Arch | null;
  /** `.modinfo` in its own order; keys such as `alias` and `parm` repeat. */
  readonly modinfo: readonly (readonly [key: string, value: string])[];
  /** The symbols it needs of the kernel and of other modules. */
  readonly imports: readonly string[];
  /** The symbols it has for other modules. */
  readonly exports: readonly string[];
  /** The CRCs it was built against (`CONFIG_MODVERSIONS`, basic or extended), by symbol. */
  readonly versions: ReadonlyMap<string, number>;
}

/** What a module may be called: it becomes part of paths. */
export const MODULE_NAME = /^[A-Za-z0-9_-]{1,64}$/;

const MODINFO_LIMIT = 1024 * 1024;
const SYMBOL_LIMIT = 1_000_000;

const bad = (message: string): KilnError => new KilnError('unverified', message);

/**
 * Reads a kernel module (source: elf(5), `include/linux/module.h`, `kernel/module/version.c`).
 * Trusts nothing in it: what is malformed throws `KilnError('unverified')`.
 */
export const readModuleFile = (bytes: Buffer): ModuleFile => {
  const elf = readElf(bytes);
  const info = elf.find('.modinfo');
  if (info === null) throw bad('the file is no kernel module: it has no .modinfo section');
  if (info.size > MODINFO_LIMIT) throw bad('the module’s .modinfo is over 1 MiB');
  return {
    arch: elf.arch,
    modinfo: parseModinfo(bytes.toString('utf8', info.offset, info.offset + info.size)),
    ...readSymbols(elf),
    versions: readVersions(elf, bytes),
  };
};

/** `SHT_SYMTAB`, and `STB_GLOBAL`: a weak symbol may stay unknown. */
const SYMBOL_TABLE = 2;
const GLOBAL = 1;

/** What `EXPORT_SYMBOL` puts before a name (`include/linux/export-internal.h`). */
const EXPORTED = '__ksymtab_';

const readSymbols = (elf: ElfObject): Pick<ModuleFile, 'imports' | 'exports'> => {
  const imports: string[] = [];
  const exports: string[] = [];
  const table = elf.findType(SYMBOL_TABLE);
  if (table === null) return { imports, exports };
  const names = elf.at(table.link);
  const [size, info, section] = elf.isWide ? [24, 4, 6] : [16, 12, 14];
  const count = Math.floor(table.size / size);
  if (count > SYMBOL_LIMIT) throw bad(`the module has over ${SYMBOL_LIMIT} symbols`);
  // The first entry is empty in every table.
  for (let index = 1; index < count; index += 1) {
    const entry = table.offset + index * size;
    const name = elf.text(names, elf.word(entry));
    const isHere = elf.half(entry + section) !== 0;
    if (isHere && name.startsWith(EXPORTED)) exports.push(name.slice(EXPORTED.length));
    if (isHere || elf.byte(entry + info) >> 4 !== GLOBAL) continue;
    if (name !== '' && name !== '_GLOBAL_OFFSET_TABLE_') imports.push(name);
  }
  return { imports, exports };
};

/** `struct modversion_info`: a CRC as wide as an address, and a name that fills 64 bytes with it. */
const VERSION_SIZE = 64;

const readBasicVersions = (elf: ElfObject): Map<string, number> => {
  const versions = new Map<string, number>();
  const table = elf.find('__versions');
  if (table === null) return versions;
  for (let at = 0; at + VERSION_SIZE <= table.size; at += VERSION_SIZE) {
    const name = elf.text(table, at + (elf.isWide ? 8 : 4));
    // Of a name that is there twice, the kernel takes the first.
    if (!versions.has(name)) versions.set(name, elf.long(table.offset + at));
  }
  return versions;
};

const CRC_SIZE = 4;
const NAMES_LIMIT = 16 * 1024 * 1024;

/**
 * The CRCs of `CONFIG_EXTENDED_MODVERSIONS` (Linux 6.14): one section of them and one of names, of any length, in the same order;
 * `null` where there are none. A kernel refuses one section without the other, and a CRC without a name
 * (`elf_validity_cache_index_versions` in `kernel/module/main.c`).
 */
const readExtendedVersions = (elf: ElfObject, bytes: Buffer): Map<string, number> | null => {
  const [crcs, texts] = [elf.find('__version_ext_crcs'), elf.find('__version_ext_names')];
  if (crcs === null && texts === null) return null;
  if (crcs === null || texts === null)
    throw bad('the module’s extended versions have CRCs without names, or names without CRCs');
  if (texts.size > NAMES_LIMIT)
    throw bad('the module’s names of extended versions are over 16 MiB');
  const names = bytes.toString('latin1', texts.offset, texts.offset + texts.size).split('\0');
  const count = Math.floor(crcs.size / CRC_SIZE);
  // What is behind the last NUL is no name.
  if (count >= names.length)
    throw bad('the module has more extended versions (CRCs) than names for them');
  const versions = new Map<string, number>();
  for (const [index, name] of names.slice(0, count).entries())
    if (!versions.has(name)) versions.set(name, elf.word(crcs.offset + index * CRC_SIZE));
  return versions;
};

/** A kernel that knows the extended CRCs looks at those alone, and others at the basic ones alone: they must not differ (`check_version`). */
const readVersions = (elf: ElfObject, bytes: Buffer): Map<string, number> => {
  const basic = readBasicVersions(elf);
  const extended = readExtendedVersions(elf, bytes);
  for (const [name, crc] of extended === null ? [] : basic)
    if (extended?.get(name) !== crc)
      throw bad(`the module’s two tables of versions (CRCs) differ in ${name}`);
  return extended ?? basic;
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
  /** Other modinfo that the kernel expects, such as `retpoline=Y`. */
  readonly marks?: Readonly<Record<string, string>>;
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
  for (const [key, value] of Object.entries(expected.marks ?? {})) {
    if (modinfoValue(module, key) !== value)
      throw bad(`module ${name} lacks the mark ${key}=${value} that the kernel expects`);
  }
};
