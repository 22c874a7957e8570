import { elfArch, isElf } from '../format/elf.ts';
import type { Arch } from '../arch.ts';

/** What the programs in a header tree (modpost, fixdep, objtool, compiler plugins) need of the machine that runs them. */
export interface HostPrograms {
  /** The CPUs they are for; more than one is a tree put together from two. */
  readonly arches: readonly Arch[];
  /** The newest GLIBC symbol version they ask for, such as `2.34`; `null` where none asks. */
  readonly glibc: string | null;
}

/**
 * Bytes of a program that are read: its needs are in its first pages. The whole program may be large, with debug information.
 */
export const PROGRAM_HEAD = 1024 * 1024;

/** Whether a path is that of a program which every module's build runs. Trees have dozens more, for the kernel's own build. */
export const isHostProgram = (path: string): boolean =>
  /(^|\/)(scripts\/(mod\/modpost(\.real-[a-z0-9-]+)?|basic\/fixdep)|tools\/objtool\/objtool|scripts\/gcc-plugins\/[^/]+\.so)$/.test(
    path,
  );

/** Reads what the programs need from their ELF headers and symbol versions. A file that is no ELF asks for nothing. */
export const inspectHostPrograms = (programs: readonly Buffer[]): HostPrograms => {
  const binaries = programs.filter(isElf).map((bytes) => bytes.subarray(0, PROGRAM_HEAD));
  const arches = new Set(binaries.map(elfArch).filter((arch) => arch !== null));
  let newest: string | null = null;
  for (const bytes of binaries) {
    for (const [, version = ''] of bytes
      .toString('latin1')
      .matchAll(/\0GLIBC_(\d{1,3}\.\d{1,3})(?:\.\d+)?(?=\0)/g))
      if (newest === null || byVersion(version, newest) > 0) newest = version;
    // A program with packed relative relocations asks for GLIBC_ABI_DT_RELR, which came with GLIBC 2.36.
    if (
      bytes.includes('\0GLIBC_ABI_DT_RELR\0') &&
      (newest === null || byVersion('2.36', newest) > 0)
    )
      newest = '2.36';
  }
  return { arches: [...arches].sort(), glibc: newest };
};

const byVersion = (a: string, b: string): number => a.localeCompare(b, 'en', { numeric: true });

/** Tells whether a GLIBC is at least as new as a symbol version asks. */
export const hasGlibc = (version: string, asked: string): boolean => byVersion(version, asked) >= 0;
