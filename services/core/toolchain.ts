import type { Digest } from './digest.ts';
import { KilnError } from './errors.ts';
import type { Kernel } from './kernel.ts';

/** A program of a toolchain, as it names itself in the first line of `--version`. */
export interface MeasuredTool {
  readonly path: string;
  readonly version: string;
}

/** What a toolchain was measured to contain, by running it in the sandbox. */
export interface ToolchainContents {
  readonly arch: string;
  readonly os: string;
  readonly libc: string;
  readonly compilers: readonly MeasuredTool[];
  readonly linker: MeasuredTool;
  readonly make: MeasuredTool;
  readonly packages: readonly {
    readonly name: string;
    readonly version: string;
    readonly arch: string;
  }[];
}

/** A toolchain that may be chosen for a build. */
export interface ReadyToolchain {
  readonly digest: Digest;
  readonly name: string;
  readonly contents: ToolchainContents;
}

/**
 * Reads what `images/measure` prints: a line a fact, fields parted by tabs.
 * Throws `KilnError('bad-request')` if a needed tool is missing.
 */
export const parseMeasurement = (text: string): ToolchainContents => {
  const facts = text.split('\n').map((line) => line.split('\t'));
  const rows = (kind: string): string[][] =>
    facts.filter(([first]) => first === kind).map((row) => row.slice(1));
  const tools = (kind: string): MeasuredTool[] =>
    rows(kind).map(([path = '', version = '']) => ({ path, version }));
  const word = (kind: string): string => rows(kind)[0]?.[0] ?? '';
  const [linker, make, compilers] = [tools('linker')[0], tools('make')[0], tools('compiler')];
  if (linker === undefined || make === undefined || compilers.length === 0) {
    throw new KilnError(
      'bad-request',
      'the toolchain lacks a compiler, ld or make; add them to its packages',
    );
  }
  const packages = rows('package').map(([name = '', version = '', arch = '']) => ({
    name,
    version,
    arch,
  }));
  return {
    arch: word('arch'),
    os: word('os'),
    libc: word('libc'),
    compilers,
    linker,
    make,
    packages,
  };
};

/** Tells whether a toolchain holds exactly the compiler a kernel was built with (`CONFIG_CC_VERSION_TEXT`). */
export const hasCompilerOf = (toolchain: ReadyToolchain, kernel: Kernel): boolean =>
  kernel.compiler !== '' &&
  toolchain.contents.compilers.some(({ version }) => version === kernel.compiler);

/**
 * The toolchain for a kernel: same architecture, exactly its compiler, the newest where several fit
 * (they come newest first). Throws `KilnError('no-toolchain')` naming what there is.
 */
export const chooseToolchain = (
  toolchains: readonly ReadyToolchain[],
  kernel: Kernel,
): ReadyToolchain => {
  const sameArch = toolchains.filter(({ contents }) => contents.arch === kernel.arch);
  if (sameArch.length === 0) {
    const arches =
      [...new Set(toolchains.map(({ contents }) => contents.arch))].join(', ') || 'nothing yet';
    throw new KilnError(
      'no-toolchain',
      `kernel ${kernel.release} is for ${kernel.arch}, and the toolchains here build for ${arches}; an admin can add one (kiln toolchain push)`,
    );
  }
  const exact = sameArch.find((toolchain) => hasCompilerOf(toolchain, kernel));
  if (exact !== undefined) return exact;
  const compilers = sameArch.map(
    ({ name, contents }) => `${name} has ${contents.compilers.map((c) => c.version).join(', ')}`,
  );
  throw new KilnError(
    'no-toolchain',
    `kernel ${kernel.release} was built with "${kernel.compiler}", which no toolchain here has (${compilers.join('; ')}); name one with --toolchain to build with it all the same`,
  );
};
