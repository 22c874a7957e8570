import type { CompilerContract, ContractPart } from '../kernel/compiler-contract.ts';
import type { MeasuredTool, ToolchainContents } from './measurement.ts';

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
