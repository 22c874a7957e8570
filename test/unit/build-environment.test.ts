import { describe, expect, it } from '@jest/globals';
import { buildEnvironment } from '../../services/core/build/build-environment.ts';
import type { CompilerContract } from '../../services/core/kernel/compiler-contract.ts';
import { debianKernel } from './samples.ts';

const compilerOf = (compiler: string): string | undefined =>
  buildEnvironment({ ...debianKernel, compiler })['CC'];

describe('the environment of a build', () => {
  it('is these variables and no others', () => {
    expect(buildEnvironment(debianKernel)).toEqual({
      HOME: '/tmp',
      PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      LC_ALL: 'C',
      TZ: 'UTC',
      SOURCE_DATE_EPOCH: '1000000000',
      KBUILD_BUILD_TIMESTAMP: '@1000000000',
      KBUILD_BUILD_USER: 'kiln',
      KBUILD_BUILD_HOST: 'kiln',
      KBUILD_BUILD_VERSION: '1',
      CC: 'gcc-12',
    });
  });

  it.each([
    ['gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0', 'gcc-12'],
    ['gcc (GCC) 13.2.1 20230801', 'gcc'],
    ['x86_64-linux-gnu-gcc-12 (Ubuntu 12.3.0-1ubuntu1~22.04) 12.3.0', 'x86_64-linux-gnu-gcc-12'],
    ['Debian clang version 14.0.6', undefined],
    ['clang version 15.0.7 (Fedora 15.0.7-1.fc37)', undefined],
    ['gcc-12', undefined],
    ['/tmp/gcc (x) 1', undefined],
    ['$(reboot) (x) 1', undefined],
    [' gcc (x) 1', undefined],
    ['', undefined],
  ])('with a kernel that says %j has CC %s', (compiler, name) => {
    expect(compilerOf(compiler)).toBe(name);
    expect('CC' in buildEnvironment({ ...debianKernel, compiler })).toBe(name !== undefined);
  });

  it('names the symbols of what it is built against, in its order, at their places', () => {
    const zfs = { name: 'zfs', version: '2.1.11' };
    const spl = { name: 'spl', version: '2' };
    const symbols = (...dependencies: readonly (typeof zfs)[]): string | undefined =>
      buildEnvironment(debianKernel, dependencies)['KBUILD_EXTRA_SYMBOLS'];
    expect(symbols(zfs, spl)).toBe(
      '/var/lib/dkms/zfs/2.1.11/6.1.0-56-amd64/x86_64/Module.symvers /var/lib/dkms/spl/2/6.1.0-56-amd64/x86_64/Module.symvers',
    );
    expect(symbols(spl)).toBe('/var/lib/dkms/spl/2/6.1.0-56-amd64/x86_64/Module.symvers');
    expect(symbols()).toBeUndefined();
  });

  it.each<[string, Partial<CompilerContract>, Readonly<Record<string, string>>]>([
    ['lld linked', { linker: { kind: 'LLD', version: 140006 }, assembler: null }, { LLVM: '1' }],
    ['somebody linked', { linker: null, assembler: null }, { LLVM: '1' }],
    ['GNU ld linked', { assembler: null }, { GNUMAKEFLAGS: 'CC=clang' }],
    ['GNU as assembled', {}, { GNUMAKEFLAGS: 'CC=clang', LLVM_IAS: '0' }],
  ])('tells make of LLVM for a kernel that clang built and %s', (_, part, variables) => {
    const contract = { ...debianKernel.contract, isClang: true, ...part };
    const compiler = 'Debian clang version 14.0.6';
    const { CC: _none, ...plain } = buildEnvironment(debianKernel);
    expect(buildEnvironment({ ...debianKernel, compiler, contract })).toEqual({
      ...plain,
      ...variables,
    });
  });
});
