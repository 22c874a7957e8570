import type { Arch } from './kernel-config.ts';

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

/** Tells whether bytes begin as an ELF file's do, with a whole header. */
export const isElf = (bytes: Buffer): boolean =>
  bytes.length >= 64 && bytes.readUInt32BE(0) === ELF_MAGIC;

/** The CPU an ELF file is for, or `null` if Kiln has no name for it. */
export const elfArch = (bytes: Buffer): Arch | null => {
  const machine = bytes[5] === 1 ? bytes.readUInt16LE(18) : bytes.readUInt16BE(18);
  return MACHINES[machine] ?? null;
};
