import { KilnError } from '../errors.ts';

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
  readonly lld: MeasuredTool | null;
  readonly assembler: MeasuredTool | null;
  readonly pahole: MeasuredTool | null;
  readonly rustc: MeasuredTool | null;
  readonly make: MeasuredTool;
  readonly packages: readonly {
    readonly name: string;
    readonly version: string;
    readonly arch: string;
  }[];
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
    lld: tools('lld')[0] ?? null,
    assembler: tools('assembler')[0] ?? null,
    pahole: tools('pahole')[0] ?? null,
    rustc: tools('rustc')[0] ?? null,
    make,
    packages,
  };
};
