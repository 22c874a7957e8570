import type { KernelConfig } from './kernel-config.ts';
import type { MeasuredTool, ToolchainContents } from './measurement.ts';

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

/** One part of the contract that a toolchain does not keep. */
export interface ContractBreach {
  readonly part: ContractPart;
  /** Such as `GNU ld 24000, has GNU ld 24400`. */
  readonly words: string;
}

/** The parts of a kernel's contract that a toolchain breaks; none if it is the toolchain that built the kernel. */
export const contractBreaches = (
  kernel: { readonly compiler: string; readonly contract: CompilerContract },
  contents: ToolchainContents,
): readonly ContractBreach[] => {
  const { compiler, contract } = kernel;
  const breaches: ContractBreach[] = [];
  const expect = (part: ContractPart, asked: string | null, found: readonly string[]): void => {
    if (asked === null || found.includes(asked)) return;
    breaches.push({ part, words: `${asked}, has ${found.join(', ') || 'none'}` });
  };
  const compilers = contents.compilers.map(({ version }) => version);
  expect(
    'compiler',
    compiler === '' ? 'a compiler its .config does not name' : compiler,
    compilers,
  );
  const { linker } = contract;
  if (linker !== null) {
    const tool = linker.kind === 'LLD' ? contents.lld : contents.linker;
    const found = ({ version }: MeasuredTool) =>
      `${linker.kind} ${toolVersion(version, linker.kind)}`;
    expect('linker', `${linker.kind} ${linker.version}`, tool === null ? [] : [found(tool)]);
  }
  if (contract.assembler !== null) {
    const found = ({ version }: MeasuredTool) => `GNU as ${toolVersion(version, 'GNU ld')}`;
    const { assembler } = contents;
    expect(
      'assembler',
      `GNU as ${contract.assembler}`,
      assembler === null ? [] : [found(assembler)],
    );
  }
  if (contract.pahole !== null) {
    const version = /v?(\d+)\.(\d+)/.exec(contents.pahole?.version ?? '');
    const found =
      version === null ? [] : [`pahole ${Number(version[1]) * 100 + Number(version[2])}`];
    expect('pahole', `pahole ${contract.pahole}`, found);
  }
  expect('rustc', contract.rustc, contents.rustc === null ? [] : [contents.rustc.version]);
  return breaches;
};

/** A version as Kconfig counts it (`scripts/ld-version.sh`, `as-version.sh`): 2.40 is 24000, LLD 14.0.6 is 140006. */
const toolVersion = (text: string, kind: 'GNU ld' | 'LLD'): number => {
  const found = kind === 'LLD' ? /LLD (\d+)\.(\d+)\.(\d+)/ : / (\d+)\.(\d+)(?:\.(\d+))?[^ ]*$/;
  const [, major = '0', minor = '0', patch = '0'] = found.exec(text) ?? [];
  return Number(major) * 10_000 + Number(minor) * 100 + Number(patch);
};
