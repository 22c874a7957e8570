import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { freshDirectory } from './make-source.ts';
import { mustRun } from './run.ts';

/** Debian's headers with something changed in them, for one test. */
export interface ChangedHeaders {
  readonly directory: string;
  /** Edits a file of the build tree. */
  edit(file: string, change: (text: string) => string): Promise<void>;
  /** Edits a file by its path from `/`, byte by byte. */
  editBytes(file: string, change: (text: string) => string): Promise<void>;
}

/** Copies headers, to be changed. */
export const copyHeaders = async (headers: string, release: string): Promise<ChangedHeaders> => {
  const directory = await freshDirectory('headers');
  await mustRun('cp', ['-a', `${headers}/.`, directory]);
  const editIn =
    (base: string, encoding: 'utf8' | 'latin1') =>
    async (file: string, change: (text: string) => string): Promise<void> => {
      const place = join(base, file);
      await writeFile(place, change(await readFile(place, encoding)), encoding);
    };
  return {
    directory,
    edit: editIn(join(directory, 'usr/src', `linux-headers-${release}`), 'utf8'),
    editBytes: editIn(directory, 'latin1'),
  };
};

const CLANG = 'Debian clang version 14.0.6';

/** Makes headers say what a kernel that clang 14 built would say, linked by lld or by GNU ld. */
export const asClangBuilt = async (
  { edit }: ChangedHeaders,
  linker: 'LLD' | 'GNU ld' = 'LLD',
): Promise<void> => {
  const linked = (text: string): string =>
    linker === 'GNU ld'
      ? text
      : text
          .replace(/^CONFIG_LD_IS_BFD=y$/m, 'CONFIG_LD_IS_LLD=y')
          .replace(/^CONFIG_LD_VERSION=.*$/m, 'CONFIG_LD_VERSION=0')
          .replace(/^CONFIG_LLD_VERSION=.*$/m, 'CONFIG_LLD_VERSION=140006')
          .replace('#define CONFIG_LD_IS_BFD 1', '#define CONFIG_LD_IS_LLD 1');
  const change = (text: string): string =>
    linked(text)
      .replace(/^(CONFIG_CC_VERSION_TEXT=).*$/m, `$1"${CLANG}"`)
      .replace(/^CONFIG_CC_IS_GCC=y$/m, 'CONFIG_CC_IS_CLANG=y')
      .replace(/^CONFIG_GCC_VERSION=.*$/m, 'CONFIG_GCC_VERSION=0')
      .replace(/^CONFIG_CLANG_VERSION=.*$/m, 'CONFIG_CLANG_VERSION=140006')
      .replace(/^CONFIG_AS_IS_GNU=y$/m, 'CONFIG_AS_IS_LLVM=y')
      // What Kconfig finds that clang 14 cannot do, or does in its own way.
      .replace(/^CONFIG_RETHUNK=y\n/m, '')
      .replace('-Wimplicit-fallthrough=5', '-Wimplicit-fallthrough')
      .replace(/^CONFIG_FTRACE_MCOUNT_USE_CC=y$/m, 'CONFIG_FTRACE_MCOUNT_USE_OBJTOOL=y')
      .concat('CONFIG_CC_HAS_AUTO_VAR_INIT_ZERO_ENABLER=y\n');
  await edit('.config', change);
  await edit('include/config/auto.conf', change);
  await edit('include/generated/autoconf.h', (text) =>
    linked(text)
      .replace('#define CONFIG_CC_IS_GCC 1', '#define CONFIG_CC_IS_CLANG 1')
      .replace('#define CONFIG_RETHUNK 1\n', ''),
  );
  // Debian's own line that takes gcc whatever make is told.
  await edit('.kernelvariables', (text) => text.replace(/^CC = .*$/m, ''));
};
