import { KilnError } from '../errors.ts';
import { modinfoValue, type ModuleFile } from './module-file.ts';

/** The symbols that a kernel, or a built module, exports, with their CRCs: 0 where the kernel keeps none. */
export type Symvers = ReadonlyMap<string, number>;

/** Reads a `Module.symvers`: CRC, symbol, module, kind of export and namespace, parted by tabs. Malformed lines are left out. */
export const parseSymvers = (text: string): Symvers => {
  if (text.length > SYMVERS_LIMIT)
    throw new KilnError(
      'too-large',
      `the Module.symvers is over ${SYMVERS_LIMIT} bytes, the most that Kiln reads`,
    );
  const symbols = new Map<string, number>();
  for (let at = 0; at < text.length;) {
    const newline = text.indexOf('\n', at);
    const end = newline < 0 ? text.length : newline;
    const [crc = '', symbol = ''] = end - at > 1000 ? [] : text.slice(at, end).split('\t', 2);
    if (/^0x[0-9a-f]{1,8}$/.test(crc) && symbol !== '') symbols.set(symbol, Number(crc));
    at = end + 1;
  }
  return symbols;
};

/** Bytes of a `Module.symvers`; a distribution's kernel has some 2 MB. */
export const SYMVERS_LIMIT = 32 * 1024 ** 2;

const SHOWN = 5;

const refuse = (
  name: string,
  what: string,
  symbols: readonly string[],
  next: string,
): KilnError => {
  const more = symbols.length > SHOWN ? ` and ${symbols.length - SHOWN} more` : '';
  return new KilnError(
    'unverified',
    `module ${name} ${what} ${symbols.slice(0, SHOWN).join(', ')}${more}; ${next}`,
  );
};

/**
 * Checks that a module finds what it needs: every symbol it imports is exported, with the CRC it was built against.
 * `exporters` are in order of trust: a symbol's CRC is the first's that has it, so that what the build itself says to export can
 * stand for its own symbols alone. Throws `KilnError('unverified')` naming the symbols.
 */
export const checkImports = (module: ModuleFile, exporters: readonly Symvers[]): void => {
  const name = modinfoValue(module, 'name') ?? '';
  const crcOf = (symbol: string): number | undefined =>
    exporters.find((symvers) => symvers.has(symbol))?.get(symbol);
  const unknown = module.imports.filter((symbol) => crcOf(symbol) === undefined);
  if (unknown.length > 0) {
    throw refuse(
      name,
      'needs symbols that neither the kernel nor what it depends on exports:',
      unknown,
      'name the source that has them with --depends, or in BUILD_DEPENDS',
    );
  }
  const others = [...module.versions].filter(([symbol, crc]) => {
    const expected = crcOf(symbol);
    return expected !== undefined && expected !== crc;
  });
  if (others.length > 0) {
    throw refuse(
      name,
      'was built against other versions (CRCs) of',
      others.map(([symbol]) => symbol),
      'the kernel would refuse it, as the build changed the kernel’s headers',
    );
  }
  // A kernel that keeps CRCs refuses a module without any, and only warns of a symbol without one (`check_version`).
  const bare = module.imports.filter(
    (symbol) => (crcOf(symbol) ?? 0) !== 0 && !module.versions.has(symbol),
  );
  if (bare.length > 0) {
    const next =
      module.versions.size === 0
        ? 'the kernel would refuse it'
        : 'the kernel would load it without knowing whether it fits';
    throw refuse(name, 'has no version (CRC) for', bare, next);
  }
};
