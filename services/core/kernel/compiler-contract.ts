import type { KernelConfig } from './kernel-config.ts';

/** The tools that built a kernel, from its `.config`: modules must be built with the same. `null` where the kernel does not say. */
export interface CompilerContract {
  /** `CONFIG_CC_IS_CLANG`. */
  readonly isClang: boolean;
  /** `CONFIG_LD_IS_*` and its version as Kconfig counts it (2.40 is 24000, LLD 14.0.6 is 140006). */
  readonly linker: { readonly kind: 'GNU ld' | 'LLD'; readonly version: number } | null;
  /** `CONFIG_AS_IS_GNU` and `CONFIG_AS_VERSION`; clang assembles by itself. */
  readonly assembler: number | null;
  /** `CONFIG_PAHOLE_VERSION` (1.24 is 124), where modules' BTF is made: it needs `vmlinux` in the tree. */
  readonly pahole: number | null;
  /** `CONFIG_RUSTC_VERSION_TEXT` of a kernel with Rust. */
  readonly rustc: string | null;
}

/** The parts of the contract that a request may waive, by name. */
export const CONTRACT_PARTS = ['compiler', 'linker', 'assembler', 'pahole', 'rustc'] as const;
export type ContractPart = (typeof CONTRACT_PARTS)[number];

/** Reads the contract from a `.config`. */
export const compilerContract = (config: KernelConfig, hasVmlinux: boolean): CompilerContract => {
  const isSet = (option: string): boolean => config.get(option) === 'y';
  const count = (option: string): number | null => Number(config.get(option) ?? '0') || null;
  const linker = (kind: 'GNU ld' | 'LLD', version: number | null) =>
    version === null ? null : { kind, version };
  const ld = count('LD_VERSION');
  return {
    isClang: isSet('CC_IS_CLANG'),
    linker: isSet('LD_IS_LLD')
      ? linker('LLD', count('LLD_VERSION'))
      : linker('GNU ld', isSet('LD_IS_BFD') ? ld : formerCount(ld)),
    assembler: isSet('AS_IS_GNU') ? count('AS_VERSION') : null,
    pahole: hasVmlinux && isSet('DEBUG_INFO_BTF_MODULES') ? count('PAHOLE_VERSION') : null,
    rustc: isSet('RUST') ? (config.get('RUSTC_VERSION_TEXT') ?? null) : null,
  };
};

/**
 * Before Linux 5.12 `LD_IS_BFD` was not there, and `scripts/ld-version.sh` counted in larger steps: 2.35.2 was 235020000.
 * `null` for what is not counted in that way.
 */
const formerCount = (version: number | null): number | null =>
  version === null || version < 100_000_000 ? null : Math.floor(version / 10_000);
