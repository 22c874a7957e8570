import { describe, expect, it } from '@jest/globals';
import { digestOf } from '../../services/core/digest.ts';
import {
  chooseToolchain,
  hasCompilerOf,
  parseMeasurement,
  type ReadyToolchain,
} from '../../services/core/toolchain.ts';
import { debianKernel, refusal } from './samples.ts';

const MEASUREMENT = [
  'arch\tx86_64',
  'os\tDebian GNU/Linux 12 (bookworm)',
  'libc\tldd (Debian GLIBC 2.36-9) 2.36',
  'compiler\t/usr/bin/gcc\tgcc (Debian 12.2.0-14) 12.2.0',
  'compiler\t/usr/bin/gcc-12\tgcc-12 (Debian 12.2.0-14) 12.2.0',
  'linker\t/usr/bin/ld\tGNU ld (GNU Binutils for Debian) 2.40',
  'make\t/usr/bin/make\tGNU Make 4.3',
  'package\tgcc-12\t12.2.0-14\tamd64',
  'package\tmake\t4.3-4.1\tamd64',
  '',
];

const toolchain = (name: string, compiler: string, arch = 'x86_64'): ReadyToolchain => ({
  digest: digestOf(name),
  name,
  contents: {
    ...parseMeasurement(MEASUREMENT.join('\n')),
    arch,
    compilers: [
      { path: '/usr/bin/cc', version: 'cc 1.0' },
      { path: '/usr/bin/gcc-12', version: compiler },
    ],
  },
});

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
});

describe('the toolchain for a kernel', () => {
  const { compiler } = debianKernel;

  it('is the first, the newest, that has exactly its compiler', () => {
    const newest = toolchain('newest', compiler);
    const choice = chooseToolchain(
      [
        toolchain('other', 'gcc-12 (Debian 12.2.0-13) 12.2.0'),
        toolchain('foreign', compiler, 'aarch64'),
        newest,
        toolchain('older', compiler),
      ],
      debianKernel,
    );
    expect(choice).toBe(newest);
  });

  it('is none that merely comes near', () => {
    for (const near of [`${compiler} `, compiler.slice(0, -1), compiler.toUpperCase(), '']) {
      expect(hasCompilerOf(toolchain('near', near), debianKernel)).toBe(false);
    }
    expect(hasCompilerOf(toolchain('exact', compiler), debianKernel)).toBe(true);
  });

  it('is refused with the names of all candidates and of their compilers', () => {
    const candidates = [toolchain('one', 'gcc-11 11.4'), toolchain('two', 'gcc-13 13.1')];
    const choose = (): unknown => chooseToolchain(candidates, debianKernel);
    expect(choose).toThrow(
      refusal('no-toolchain', /^kernel 6\.1\.0-56-amd64 was built with "gcc-12 /),
    );
    expect(choose).toThrow(
      refusal('no-toolchain', /\(one has cc 1\.0, gcc-11 11\.4; two has cc 1\.0, gcc-13 13\.1\)/),
    );
  });

  it.each([
    [[toolchain('arm', compiler, 'aarch64')], /is for x86_64, .* build for aarch64/],
    [[], /build for nothing yet/],
  ])('is refused where there is none for its architecture', (toolchains, words) => {
    expect(() => chooseToolchain(toolchains, debianKernel)).toThrow(refusal('no-toolchain', words));
  });
});
