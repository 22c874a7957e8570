import { z } from 'zod';
import { KilnError } from '../errors.ts';
import { modinfoValue, type ModuleFile } from '../module/module-file.ts';

/** What modules need of a kernel, whichever it is: symbols, with their CRCs. */

/** The most symbols that one module imports. */
const IMPORTS = 4096;
/** `KSYM_NAME_LEN`: Rust's symbols are long. */
const symbol = z.string().regex(/^[A-Za-z_][A-Za-z0-9_.]{0,510}$/);

/** CRCs, as eight hexadecimal digits, by symbol. */
export const Imports = z
  .record(symbol, z.string().regex(/^[0-9a-f]{8}$/))
  .refine((imports) => Object.keys(imports).length <= IMPORTS, {
    error: `a module imports over ${IMPORTS} symbols`,
  });
export type Imports = Readonly<Record<string, string>>;

/**
 * What each of some modules that are packed together imports: all that its bytes have a CRC of, but for what one of them exports. Throws
 * `KilnError('conflict')` where a symbol has no CRC, so that nothing would tell which kernels have the right one, or a name that no package
 * can be told of: it comes from the module's bytes, and goes into a spec file.
 */
export const importsOf = (modules: readonly ModuleFile[]): readonly Imports[] => {
  const own = new Set(modules.flatMap((module) => module.exports));
  return modules.map((module) => {
    const name = modinfoValue(module, 'name') ?? '';
    if (module.versions.size === 0)
      throw new KilnError(
        'conflict',
        `no kmp can be made of ${name}.ko, which has no CRCs of the symbols it needs, as its kernel was built without CONFIG_MODVERSIONS; make an rpm of it`,
      );
    const bare = module.imports.find((each) => !own.has(each) && !module.versions.has(each));
    if (bare !== undefined)
      throw new KilnError(
        'conflict',
        `no kmp can be made of ${name}.ko, which has no CRC of the symbol ${bare} that it needs; make an rpm of it`,
      );
    const needed = [...module.versions].filter(([each]) => !own.has(each));
    const imports = Imports.safeParse(
      Object.fromEntries(
        needed.map(([each, crc]) => [each, crc.toString(16).padStart(8, '0')] as const),
      ),
    );
    if (!imports.success)
      throw new KilnError(
        'conflict',
        `no kmp can be made of ${name}.ko, which imports over ${IMPORTS} symbols, or one with an odd name; make an rpm of it`,
      );
    return imports.data;
  });
};
