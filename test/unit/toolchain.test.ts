import { describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import type { Kernel } from '../../services/core/kernel/kernel.ts';
import {
  parseMeasurement,
  type ToolchainContents,
} from '../../services/core/toolchain/measurement.ts';
import {
  chooseToolchain,
  type ReadyToolchain,
  type ToolchainWish,
} from '../../services/core/toolchain/toolchain.ts';
import { debianKernel, refusal } from './samples.ts';

const MEASUREMENT = [
  'arch\tx86_64',
  'os\tDebian GNU/Linux 12 (bookworm)',
  'libc\tldd (Debian GLIBC 2.36-9) 2.36',
  'compiler\t/usr/bin/gcc\tgcc (Debian 12.2.0-14) 12.2.0',
  'compiler\t/usr/bin/gcc-12\tgcc-12 (Debian 12.2.0-14) 12.2.0',
  'linker\t/usr/bin/ld\tGNU ld (GNU Binutils for Debian) 2.40',
  'lld\t/usr/bin/ld.lld\tDebian LLD 14.0.6 (compatible with GNU linkers)',
  'assembler\t/usr/bin/as\tGNU assembler (GNU Binutils for Debian) 2.40',
  'pahole\t/usr/bin/pahole\tv1.24',
  'rustc\t/usr/bin/rustc\trustc 1.78.0 (9b00956e5 2024-04-29)',
  'make\t/usr/bin/make\tGNU Make 4.3',
  'package\tgcc-12\t12.2.0-14\tamd64',
  'package\tmake\t4.3-4.1\tamd64',
  '',
];

/** A toolchain of the kernel's own tools, and what the test says instead. */
const toolchain = (
  name: string,
  change: Partial<ToolchainContents> & { readonly compiler?: string } = {},
): ReadyToolchain => {
  const { compiler = debianKernel.compiler, ...contents } = change;
  const compilers = [
    { path: '/usr/bin/cc', version: 'cc 1.0' },
    { path: '/usr/bin/gcc-12', version: compiler },
  ];
  return {
    digest: digestOf(name),
    name,
    contents: { ...parseMeasurement(MEASUREMENT.join('\n')), compilers, ...contents },
  };
};
const packages = (...names: readonly string[]): ToolchainContents['packages'] =>
  names.map((name) => ({ name, version: '1', arch: 'amd64' }));
const measured = (version: string): { path: string; version: string } => ({
  path: '/usr/bin/x',
  version,
});
const NOTHING: ToolchainWish = { needs: [], hasRust: false, waived: [] };

describe('a measurement', () => {
  it('is read fact by fact', () => {
    expect(parseMeasurement(MEASUREMENT.join('\n'))).toEqual({
      arch: 'x86_64',
      os: 'Debian GNU/Linux 12 (bookworm)',
      libc: 'ldd (Debian GLIBC 2.36-9) 2.36',
      compilers: [
        { path: '/usr/bin/gcc', version: 'gcc (Debian 12.2.0-14) 12.2.0' },
        { path: '/usr/bin/gcc-12', version: 'gcc-12 (Debian 12.2.0-14) 12.2.0' },
      ],
      linker: { path: '/usr/bin/ld', version: 'GNU ld (GNU Binutils for Debian) 2.40' },
      lld: {
        path: '/usr/bin/ld.lld',
        version: 'Debian LLD 14.0.6 (compatible with GNU linkers)',
      },
      assembler: { path: '/usr/bin/as', version: 'GNU assembler (GNU Binutils for Debian) 2.40' },
      pahole: { path: '/usr/bin/pahole', version: 'v1.24' },
      rustc: { path: '/usr/bin/rustc', version: 'rustc 1.78.0 (9b00956e5 2024-04-29)' },
      make: { path: '/usr/bin/make', version: 'GNU Make 4.3' },
      packages: [
        { name: 'gcc-12', version: '12.2.0-14', arch: 'amd64' },
        { name: 'make', version: '4.3-4.1', arch: 'amd64' },
      ],
    });
  });

  it.each(['compiler', 'linker', 'make'])('is refused without a %s', (tool) => {
    const rest = MEASUREMENT.filter((line) => !line.startsWith(`${tool}\t`));
    expect(() => parseMeasurement(rest.join('\n'))).toThrow(
      refusal('bad-request', /lacks a compiler, ld or make/),
    );
  });

  it.each(['lld', 'assembler', 'pahole', 'rustc'] as const)('may lack %s', (name) => {
    const rest = MEASUREMENT.filter((line) => !line.startsWith(`${name}\t`));
    const contents = parseMeasurement(rest.join('\n'));
    expect(contents[name]).toBeNull();
    expect({ ...contents, [name]: undefined }).toEqual({
      ...parseMeasurement(MEASUREMENT.join('\n')),
      [name]: undefined,
    });
  });
});

describe('the toolchain for a kernel', () => {
  const choose = (
    toolchains: readonly ReadyToolchain[],
    wish: Partial<ToolchainWish> = {},
    kernel: Kernel = debianKernel,
  ) => chooseToolchain(toolchains, kernel, { ...NOTHING, ...wish });
  const nameOf = (...asked: Parameters<typeof choose>): string => choose(...asked).toolchain.name;

  const gcc13 = 'gcc-13 (Debian 13.1.0-1) 13.1.0';
  const foreign = toolchain('foreign', { arch: 'aarch64' });
  const other = toolchain('other', { compiler: gcc13 });

  it('is the one that has exactly its tools, and breaks nothing', () => {
    const exact = toolchain('exact');
    const choice = chooseToolchain([other, foreign, exact], debianKernel);
    expect(choice.toolchain).toBe(exact);
    expect(choice.breaches).toEqual([]);
  });

  it.each(['newer', 'older'])('is the first of those that are alike: %s', (name) => {
    const alike = [toolchain('newer'), toolchain('older')];
    expect(nameOf([foreign, ...(name === 'newer' ? alike : alike.toReversed())])).toBe(name);
  });

  it('is the one of fewest packages, be it older', () => {
    const three = toolchain('three', { packages: packages('a', 'b', 'c') });
    const one = toolchain('one', { packages: packages('a') });
    const two = toolchain('two', { packages: packages('a', 'b') });
    expect(nameOf([three, one, two])).toBe('one');
    expect(nameOf([three, one, two], { needs: ['b'] })).toBe('two');
    expect(nameOf([three, one, two], { needs: ['c', 'a'] })).toBe('three');
  });

  it.each([`${debianKernel.compiler} `, debianKernel.compiler.slice(0, -1), 'GCC-12', ''])(
    'is none whose compiler %j merely comes near',
    (compiler) => {
      expect(() => choose([toolchain('near', { compiler })])).toThrow(
        refusal('no-toolchain', /Nearest: near: compiler should be gcc-12 /),
      );
    },
  );

  it.each<[string, RegExp, Partial<ToolchainContents>]>([
    [
      'linker',
      /linker should be GNU ld 24000, has GNU ld 24400/,
      { linker: measured('GNU ld (x) 2.44') },
    ],
    [
      'assembler',
      /assembler should be GNU as 24000, has GNU as 23502/,
      { assembler: measured('GNU assembler (x) 2.35.2') },
    ],
    ['lack of an assembler', /assembler should be GNU as 24000, has none/, { assembler: null }],
  ])('is none with another %s', (_, words, change) => {
    expect(() => choose([toolchain('near', change)])).toThrow(refusal('no-toolchain', words));
  });

  it('is one that breaks what is waived, and says what that is', () => {
    const old = { linker: measured('GNU ld (x) 2.44'), compiler: gcc13 };
    const { toolchain: chosen, breaches } = choose([toolchain('old', old)], {
      waived: ['linker', 'compiler', 'rustc'],
    });
    expect(chosen.name).toBe('old');
    expect(breaches.map(({ part }) => part)).toEqual(['compiler', 'linker']);
  });

  it('needs the kernel’s rustc for a source that has Rust, and for no other', () => {
    const contract = { ...debianKernel.contract, rustc: 'rustc 1.85.1' };
    const kernel = { ...debianKernel, contract };
    const exact = toolchain('exact');
    expect(choose([exact], {}, kernel).breaches).toEqual([]);
    expect(() => choose([exact], { hasRust: true }, kernel)).toThrow(
      refusal('no-toolchain', /rustc should be rustc 1\.85\.1.*--waive rustc/),
    );
    const waived = choose([exact], { hasRust: true, waived: ['rustc'] }, kernel);
    expect(waived.breaches.map(({ part }) => part)).toEqual(['rustc']);
  });

  it('is none that breaks more than is waived; only that more is named', () => {
    const old = { linker: measured('GNU ld (x) 2.44'), compiler: gcc13 };
    const work = (): unknown => choose([toolchain('old', old)], { waived: ['compiler'] });
    expect(work).toThrow(refusal('no-toolchain', /old: linker should be .* --waive linker$/));
    expect(work).toThrow(refusal('no-toolchain', /^(?!.*compiler should be)/));
  });

  it('is the one that breaks least, though all it breaks is waived', () => {
    const slim = toolchain('slim', { compiler: gcc13, packages: [] });
    const slimmer = toolchain('slimmer', {
      compiler: gcc13,
      linker: measured('GNU ld (x) 2.44'),
      packages: [],
    });
    const waived = ['compiler', 'linker'] as const;
    expect(nameOf([slimmer, slim, toolchain('exact')], { waived })).toBe('exact');
    expect(nameOf([slimmer, slim], { waived })).toBe('slim');
    expect(nameOf([slimmer], { waived })).toBe('slimmer');
  });

  it('has every package the source needs', () => {
    const bare = toolchain('bare', { packages: packages('make') });
    const full = toolchain('full', { packages: packages('make', 'libelf-dev', 'libxtables-dev') });
    expect(nameOf([bare, full])).toBe('bare');
    expect(nameOf([bare, full], { needs: ['libxtables-dev', 'libelf-dev'] })).toBe('full');
    expect(() => choose([bare, full], { needs: ['libxtables'] })).toThrow(
      refusal('no-toolchain', /bare: it lacks the packages libxtables \| full: it lacks/),
    );
  });

  it('runs the header tree’s own programs', () => {
    const glibc = (version: string): ReadyToolchain =>
      toolchain(version, { libc: `ldd (Debian GLIBC ${version}-9) ${version}` });
    const asking = (asked: string | null): Kernel => ({
      ...debianKernel,
      hostPrograms: { arches: ['x86_64'], glibc: asked },
    });
    const names = ['2.4', '2.31', '2.34', '2.36'];
    const fitting = (asked: string | null): string[] =>
      names.filter((name) => {
        try {
          return nameOf([glibc(name)], {}, asking(asked)) === name;
        } catch (error) {
          expect(error).toEqual(refusal('no-toolchain', /need GLIBC 2\.34, it has 2\.(4|31)\./));
          return false;
        }
      });
    expect(fitting('2.34')).toEqual(['2.34', '2.36']);
    expect(fitting(null)).toEqual(names);
    expect(() => choose([toolchain('musl', { libc: '' })], {}, asking('2.2'))).toThrow(
      refusal('no-toolchain', /need GLIBC 2\.2, it has 0\./),
    );
  });

  it('is none where those programs are another machine’s, or some are', () => {
    for (const arches of [['aarch64'], ['aarch64', 'x86_64'], ['x86_64', 'aarch64']] as const) {
      const kernel: Kernel = { ...debianKernel, hostPrograms: { arches, glibc: null } };
      expect(() => choose([toolchain('ours')], {}, kernel)).toThrow(
        refusal('no-toolchain', /own programs are for aarch64, it runs x86_64/),
      );
    }
    const none: Kernel = { ...debianKernel, hostPrograms: { arches: [], glibc: null } };
    expect(nameOf([toolchain('ours')], {}, none)).toBe('ours');
  });

  it('is the one that is named, though another fits better', () => {
    const big = toolchain('big', { packages: packages('a', 'b', 'c', 'd') });
    expect(nameOf([toolchain('small', { packages: [] }), big], { digest: big.digest })).toBe('big');
  });

  it('that is named is refused where it does not fit, though another does', () => {
    const work = (): unknown => choose([toolchain('exact'), other], { digest: other.digest });
    expect(work).toThrow(refusal('no-toolchain', /Nearest: other: compiler should be/));
    expect(work).toThrow(refusal('no-toolchain', /^(?!.*exact)/));
  });

  it('that is named and not here is refused with the names of those that are', () => {
    const digest = digestOf('gone');
    const exact = toolchain('exact');
    const named = new RegExp(
      `^toolchain ${digest} is not ready here; those ready: exact ${exact.digest}, other ${other.digest}$`,
    );
    expect(() => choose([exact, other], { digest })).toThrow(refusal('no-toolchain', named));
    expect(() => choose([], { digest })).toThrow(refusal('no-toolchain', /those ready: none$/));
  });
});

describe('the refusal of a toolchain', () => {
  const old = toolchain('old', { compiler: 'gcc-11 11.4', linker: measured('GNU ld (x) 2.35.2') });
  const near = toolchain('near', { compiler: 'gcc-12 12.1' });
  const dated = toolchain('dated', { libc: 'ldd 2.31' });
  const arm = toolchain('arm', { arch: 'aarch64' });
  const refused = (
    toolchains: readonly ReadyToolchain[],
    words: RegExp,
    wish: ToolchainWish = NOTHING,
  ): void => {
    expect(() => chooseToolchain(toolchains, debianKernel, wish)).toThrow(
      refusal('no-toolchain', words),
    );
  };

  it('names the kernel and its compiler, then the nearest three, nearest first', () => {
    refused(
      [arm, dated, old, near],
      /^no toolchain here fits kernel 6\.1\.0-56-amd64, built with "gcc-12 .*"\. Nearest: near: [^|]+ \| old: [^|]+ \| dated: [^|]+$/,
    );
  });

  it('names all that is wrong with each', () => {
    refused(
      [old],
      /old: compiler should be gcc-12 .*, has cc 1\.0, gcc-11 11\.4; linker should be GNU ld 24000, has GNU ld 23502\./,
    );
    refused([arm], /arm: it builds for aarch64, the kernel is for x86_64; /);
  });

  it('has one for another machine as the farthest, though it asks nothing of its host', () => {
    const kernel: Kernel = { ...debianKernel, hostPrograms: { arches: [], glibc: null } };
    const words = /Nearest: old: .* \| arm: it builds for aarch64, the kernel is for x86_64\. /;
    expect(() => chooseToolchain([arm, old], kernel)).toThrow(refusal('no-toolchain', words));
  });

  it('tells from one that lacks a package before one that breaks the contract', () => {
    const wish: ToolchainWish = { ...NOTHING, needs: ['libelf-dev'] };
    const withIt = toolchain('with', { compiler: 'gcc-11', packages: packages('libelf-dev') });
    refused([withIt, toolchain('without')], /Nearest: without: .* \| with: /, wish);
  });

  it.each<[string, readonly ReadyToolchain[], readonly string[], RegExp]>([
    [
      'the contract alone is broken',
      [old],
      [],
      /\. Pin one that has it \(kiln toolchain push\), or build all the same with --waive compiler,linker$/,
    ],
    [
      'packages are missing',
      [toolchain('bare')],
      ['libelf-dev'],
      /\. An admin makes one with those packages \(images\/make-toolchain images\/bare bare-more\.tar libelf-dev\) and pins it \(kiln toolchain push bare-more\.tar --name bare-more\)$/,
    ],
    [
      'packages are missing and more',
      [old],
      ['libelf-dev'],
      /\. An admin makes one with those packages /,
    ],
    ['it could not run', [dated], [], /\. An admin adds one that fits \(kiln toolchain push\)$/],
    ['it is for another machine', [arm], ['libelf-dev'], /\. An admin adds one that fits /],
    [
      'there is none at all',
      [],
      [],
      /^no toolchain is ready here; an admin adds one \(kiln toolchain push\)$/,
    ],
    ['others are farther off', [arm, near], [], /with --waive compiler$/],
  ])('says what to do next where %s', (_, toolchains, needs, words) => {
    refused(toolchains, words, { ...NOTHING, needs });
  });
});
