import { describe, expect, it } from '@jest/globals';
import {
  contractBreaches,
  type ContractBreach,
} from '../../services/core/toolchain/contract-breaches.ts';
import {
  compilerContract,
  CONTRACT_PARTS,
  type CompilerContract,
} from '../../services/core/kernel/compiler-contract.ts';
import { parseKernelConfig, type KernelConfig } from '../../services/core/kernel/kernel-config.ts';
import type { MeasuredTool, ToolchainContents } from '../../services/core/toolchain/measurement.ts';

const GCC = [
  'CC_VERSION_TEXT="gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0"',
  'CC_IS_GCC=y',
  'AS_IS_GNU=y',
  'AS_VERSION=24000',
  'LD_IS_BFD=y',
  'LD_VERSION=24000',
  'LLD_VERSION=0',
];
const CLANG = [
  'CC_VERSION_TEXT="Debian clang version 14.0.6"',
  'CC_IS_CLANG=y',
  'AS_IS_LLVM=y',
  'AS_VERSION=140006',
  'LD_VERSION=0',
  'LD_IS_LLD=y',
  'LLD_VERSION=140006',
];
const BTF = ['DEBUG_INFO_BTF_MODULES=y', 'PAHOLE_VERSION=124'];
const RUSTC = 'rustc 1.78.0 (9b00956e5 2024-04-29)';

const configOf = (options: readonly string[]): KernelConfig =>
  parseKernelConfig(options.map((option) => `CONFIG_${option}\n`).join(''));
const contractOf = (options: readonly string[], hasVmlinux = false): CompilerContract =>
  compilerContract(configOf(options), hasVmlinux);

const NONE: CompilerContract = {
  isClang: false,
  linker: null,
  assembler: null,
  pahole: null,
  rustc: null,
};

describe('the contract of a kernel', () => {
  it.each<[string, readonly string[], Partial<CompilerContract>]>([
    ['gcc and GNU ld', GCC, { linker: { kind: 'GNU ld', version: 24000 }, assembler: 24000 }],
    ['clang and LLD', CLANG, { isClang: true, linker: { kind: 'LLD', version: 140006 } }],
    [
      'clang and GNU ld and as',
      ['CC_IS_CLANG=y', ...GCC.slice(2)],
      { isClang: true, linker: { kind: 'GNU ld', version: 24000 }, assembler: 24000 },
    ],
    ['a config that says nothing', [], {}],
    ['a linker without a version', ['LD_IS_BFD=y', 'LD_VERSION=0', 'LD_IS_LLD=n'], {}],
    ['a linker of no known kind', ['LD_VERSION=24000', 'LLD_VERSION=140006'], {}],
    [
      'a GNU ld that Linux before 5.12 counts in its own way and does not name (Debian 11)',
      ['CC_IS_GCC=y', 'LD_VERSION=235020000', 'LLD_VERSION=0'],
      { linker: { kind: 'GNU ld', version: 23502 } },
    ],
    [
      'LLD where GNU ld was counted in that way',
      ['LD_IS_LLD=y', 'LD_VERSION=0', 'LLD_VERSION=110001'],
      { linker: { kind: 'LLD', version: 110001 } },
    ],
    ['an assembler without a version', ['AS_IS_GNU=y'], {}],
    ['Rust', ['RUST=y', `RUSTC_VERSION_TEXT="${RUSTC}"`], { rustc: RUSTC }],
    ['a rustc that was there and not used', [`RUSTC_VERSION_TEXT="${RUSTC}"`], {}],
    ['Rust of no known version', ['RUST=y'], {}],
  ])('is read from %s', (_, options, contract) => {
    expect(contractOf(options)).toEqual({ ...NONE, ...contract });
  });

  it.each<[string, readonly string[], boolean, number | null]>([
    ['vmlinux and BTF for modules', BTF, true, 124],
    ['no vmlinux', BTF, false, null],
    ['no BTF for modules', ['PAHOLE_VERSION=124'], true, null],
    ['no pahole at its build', ['DEBUG_INFO_BTF_MODULES=y', 'PAHOLE_VERSION=0'], true, null],
  ])('with %s asks for its pahole or for none', (_, options, hasVmlinux, pahole) => {
    expect(contractOf(options, hasVmlinux).pahole).toBe(pahole);
  });
});

describe('what a toolchain breaks of a contract', () => {
  const tool = (version: string): MeasuredTool => ({ path: '/usr/bin/x', version });
  const debian: ToolchainContents = {
    arch: 'x86_64',
    os: 'Debian GNU/Linux 12 (bookworm)',
    libc: 'ldd (Debian GLIBC 2.36-9) 2.36',
    compilers: [
      tool('gcc (Debian 12.2.0-14+deb12u1) 12.2.0'),
      tool('gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0'),
      tool('Debian clang version 14.0.6'),
    ],
    linker: tool('GNU ld (GNU Binutils for Debian) 2.40'),
    lld: tool('Debian LLD 14.0.6 (compatible with GNU linkers)'),
    assembler: tool('GNU assembler (GNU Binutils for Debian) 2.40'),
    pahole: tool('v1.24'),
    rustc: tool(RUSTC),
    make: tool('GNU Make 4.3'),
    packages: [],
  };
  const breaches = (
    options: readonly string[],
    change: Partial<ToolchainContents> = {},
  ): readonly ContractBreach[] =>
    contractBreaches(
      {
        compiler: configOf(options).get('CC_VERSION_TEXT') ?? '',
        contract: contractOf(options, true),
      },
      { ...debian, ...change },
    );
  const parts = (...asked: Parameters<typeof breaches>): string[] =>
    breaches(...asked).map(({ part }) => part);

  const ALL = [...GCC, ...BTF, 'RUST=y', `RUSTC_VERSION_TEXT="${RUSTC}"`];

  it.each([
    ['gcc and GNU ld', GCC],
    ['clang and LLD', CLANG],
    ['pahole and rustc besides', ALL],
  ])('is nothing where it has the kernel’s own: %s', (_, options) => {
    expect(breaches(options)).toEqual([]);
  });

  it.each<[string, readonly string[], Partial<ToolchainContents>, readonly string[]]>([
    [
      'another compiler',
      ALL,
      { compilers: [tool('gcc-12 (Debian 12.2.0-13) 12.2.0')] },
      ['compiler'],
    ],
    ['a newer linker', ALL, { linker: tool('GNU ld (GNU Binutils) 2.44') }, ['linker']],
    ['a newer patch of the linker', ALL, { linker: tool('GNU ld (x) 2.40.1') }, ['linker']],
    [
      'another program as linker',
      ALL,
      { linker: tool('Debian LLD 14.0.6 (compatible)') },
      ['linker'],
    ],
    ['an older assembler', ALL, { assembler: tool('GNU assembler (x) 2.39') }, ['assembler']],
    ['no assembler', ALL, { assembler: null }, ['assembler']],
    ['an older pahole', ALL, { pahole: tool('v1.22') }, ['pahole']],
    ['no pahole', ALL, { pahole: null }, ['pahole']],
    ['another rustc', ALL, { rustc: tool('rustc 1.78.0 (other 2024-04-30)') }, ['rustc']],
    ['no rustc', ALL, { rustc: null }, ['rustc']],
    ['no LLD', CLANG, { lld: null }, ['linker']],
    ['another LLD', CLANG, { lld: tool('LLD 14.0.5') }, ['linker']],
    [
      'nothing of it',
      ALL,
      {
        compilers: [tool('cc 1')],
        linker: tool('ld 1.0'),
        assembler: null,
        pahole: null,
        rustc: null,
      },
      CONTRACT_PARTS,
    ],
  ])('is named by its part with %s', (_, options, change, broken) => {
    expect(parts(options, change)).toEqual(broken);
  });

  it('does not count tools that the kernel asks nothing of', () => {
    const lacking = { lld: null, pahole: null, rustc: null };
    expect(breaches(GCC, lacking)).toEqual([]);
    expect(breaches(CLANG, { ...lacking, lld: debian.lld, assembler: null })).toEqual([]);
  });

  it.each<[number, string]>([
    [24000, 'GNU ld (GNU Binutils for Debian) 2.40'],
    [23502, 'GNU ld (GNU Binutils for Debian) 2.35.2'],
    [23400, 'GNU ld version 2.34-4.fc32'],
    [23501, 'GNU ld (GNU Binutils; openSUSE Leap 15.3) 2.35.1.20201116'],
    [23000, 'GNU ld (GNU Binutils for Ubuntu) 2.30'],
    [20905, 'GNU ld (GNU Binutils) 2.9.5'],
  ])('counts %d, as Kconfig does, in the GNU binutils that say %j', (count, version) => {
    const options = ['CC_VERSION_TEXT="Debian clang version 14.0.6"', 'LD_IS_BFD=y', 'AS_IS_GNU=y'];
    const asking = (ld: number, as: number): string[] =>
      parts([...options, `LD_VERSION=${ld}`, `AS_VERSION=${as}`], {
        linker: tool(version),
        assembler: tool(version.replace('ld', 'assembler')),
      });
    expect(asking(count, count)).toEqual([]);
    expect(asking(count + 1, count)).toEqual(['linker']);
    expect(asking(count, count - 1)).toEqual(['assembler']);
  });

  it.each<[number, string]>([
    [140006, 'Debian LLD 14.0.6 (compatible with GNU linkers)'],
    [180103, 'Ubuntu LLD 18.1.3 (compatible with GNU linkers)'],
    [150007, 'LLD 15.0.7'],
    [
      130001,
      'LLD 13.0.1 (https://github.com/llvm/llvm-project 75e33f7) (compatible with GNU linkers)',
    ],
  ])('counts %d, as Kconfig does, in the LLD that says %j', (count, version) => {
    const asking = (lld: number): string[] =>
      parts([...CLANG.slice(0, -1), `LLD_VERSION=${lld}`], { lld: tool(version) });
    expect(asking(count)).toEqual([]);
    expect(asking(count + 1)).toEqual(['linker']);
  });

  it.each([
    ['v1.24', 124],
    ['v1.09', 109],
    ['1.30', 130],
  ])('counts pahole %s as %d', (version, count) => {
    const asking = (pahole: number): string[] =>
      parts([...GCC, 'DEBUG_INFO_BTF_MODULES=y', `PAHOLE_VERSION=${pahole}`], {
        pahole: tool(version),
      });
    expect(asking(count)).toEqual([]);
    expect(asking(count + 1)).toEqual(['pahole']);
  });

  it('says what is asked and what is there', () => {
    const change = { compilers: [tool('gcc 1'), tool('gcc 2')], rustc: null };
    expect(breaches(ALL, change)).toEqual([
      { part: 'compiler', words: 'gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0, has gcc 1, gcc 2' },
      { part: 'rustc', words: `${RUSTC}, has none` },
    ]);
  });

  it('is the compiler where the kernel does not name its own', () => {
    expect(breaches(GCC.slice(1))).toMatchObject([
      {
        part: 'compiler',
        words: expect.stringMatching(/^a compiler its \.config does not name, /),
      },
    ]);
  });
});
