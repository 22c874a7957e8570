import type { CompilerContract } from '../kernel/compiler-contract.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { resultDirectory } from './recipe.ts';
import type { Source } from '../source/source.ts';

/** The time that every build is told (2001-09-09T01:46:40Z): no byte of a module may depend on when it was built. */
export const SOURCE_DATE_EPOCH = 1_000_000_000;

/** The host name that every build is told. */
export const BUILD_HOST = 'kiln';

/** The PATH of every build, and of a toolchain's measurement. */
export const BUILD_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * Every environment variable that a build sees; part of the fingerprint.
 * `CC` is the compiler's name from the kernel's own record, as DKMS exports it. `KBUILD_EXTRA_SYMBOLS` is how Kbuild learns of the
 * symbols that other modules export (`Documentation/kbuild/modules.rst`).
 */
export const buildEnvironment = (
  kernel: Pick<Kernel, 'compiler' | 'contract' | 'release' | 'arch'>,
  dependencies: readonly Pick<Source, 'name' | 'version'>[] = [],
): Readonly<Record<string, string>> => {
  // "gcc-12 (Debian …)" names the program, "Debian clang version …" does not.
  const compiler = /^([A-Za-z0-9_.+-]+)(?= \()/.exec(kernel.compiler)?.[0];
  return {
    HOME: '/tmp',
    PATH: BUILD_PATH,
    LC_ALL: 'C',
    TZ: 'UTC',
    SOURCE_DATE_EPOCH: String(SOURCE_DATE_EPOCH),
    KBUILD_BUILD_TIMESTAMP: `@${SOURCE_DATE_EPOCH}`,
    KBUILD_BUILD_USER: 'kiln',
    KBUILD_BUILD_HOST: BUILD_HOST,
    KBUILD_BUILD_VERSION: '1',
    ...(compiler === undefined ? {} : { CC: compiler }),
    ...(kernel.contract.isClang ? clangVariables(kernel.contract) : {}),
    ...(dependencies.length === 0
      ? {}
      : {
          KBUILD_EXTRA_SYMBOLS: dependencies
            .map((source) => `${resultDirectory(source, kernel)}/Module.symvers`)
            .join(' '),
        }),
  };
};

/**
 * Variables of Kbuild for a kernel that clang built (`Documentation/kbuild/llvm.rst`). `LLVM=1` would link with lld: where GNU ld linked
 * the kernel only the compiler is set, which Kbuild takes from make's command line and not from the environment.
 */
const clangVariables = ({
  linker,
  assembler,
}: CompilerContract): Readonly<Record<string, string>> => ({
  ...(linker?.kind === 'GNU ld' ? { GNUMAKEFLAGS: 'CC=clang' } : { LLVM: '1' }),
  ...(assembler === null ? {} : { LLVM_IAS: '0' }),
});
