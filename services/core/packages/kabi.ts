import { z } from 'zod';
import { KilnError } from '../errors.ts';
import { isGplModule } from '../module/weak-updates.ts';
import { modinfoValue, type ModuleFile } from '../module/module-file.ts';
import { list } from '../schemas/domain.ts';

/** What modules that are packed together need of a kernel, whichever it is. */

/** The most symbols that modules of one package import. */
export const SYMBOLS = 8000;
/** `KSYM_NAME_LEN`: Rust's symbols are long. */
const symbol = z.string().regex(/^[A-Za-z_][A-Za-z0-9_.]{0,510}$/);
const namespace = z.string().regex(/^[A-Za-z_][A-Za-z0-9_:.-]{0,127}$/);

export const Kabi = z.strictObject({
  /** Each symbol, with its CRC as eight hexadecimal digits, sorted. */
  symbols: list(z.tuple([symbol, z.string().regex(/^[0-9a-f]{8}$/)]), SYMBOLS),
  /** What their vermagic says behind the release: `SMP preempt mod_unload modversions`. */
  vermagic: z.string().regex(/^[A-Za-z0-9_+. -]{0,200}$/),
  /** Whether all of them may use symbols that are for modules under the GPL alone. */
  isGpl: z.boolean(),
  /** The namespaces of symbols that all of them import. */
  namespaces: list(namespace, 64),
});
export type Kabi = z.infer<typeof Kabi>;

const none = (module: ModuleFile, why: string): KilnError =>
  new KilnError(
    'conflict',
    `no kmp can be made of ${(modinfoValue(module, 'name') ?? 'a module').slice(0, 64)}.ko, ${why}; make an rpm of it`,
  );

/**
 * What some modules need, by their bytes: all symbols that these have a CRC of, but for what another of the modules exports. Throws
 * `KilnError('conflict')` where a symbol has no CRC, so that nothing would tell which kernels have the right one, or a name that no package
 * can be told of: it comes from the module's bytes, and goes into a spec file.
 */
export const kabiOf = (modules: readonly ModuleFile[]): Kabi => {
  const symbols = new Map<string, string>();
  for (const module of modules)
    for (const [name, crc] of importsOf(module, modules)) symbols.set(`${name} ${crc}`, crc);
  const [first] = modules;
  if (first === undefined) throw new TypeError('no modules');
  const traits = modules.map(traitsOf);
  const odd = modules.find((_, at) => traits[at] !== traits[0]);
  if (odd !== undefined) throw none(odd, `whose vermagic is not that of ${traits[0] ?? ''}`);
  const namespaces = modules.map(namespacesOf);
  const kabi = Kabi.safeParse({
    symbols: [...symbols].sort().map(([key, crc]) => [key.slice(0, -crc.length - 1), crc]),
    vermagic: traits[0],
    isGpl: modules.every(isGplModule),
    namespaces: (namespaces[0] ?? [])
      .filter((each) => namespaces.every((others) => others.includes(each)))
      .sort(),
  });
  if (!kabi.success)
    throw none(first, `as its modules import over ${SYMBOLS} symbols, or one with an odd name`);
  return kabi.data;
};

/** Symbols of a module with their CRCs. */
const importsOf = (
  module: ModuleFile,
  all: readonly ModuleFile[],
): readonly (readonly [symbol: string, crc: string])[] => {
  if (module.versions.size > SYMBOLS) throw none(module, `which imports over ${SYMBOLS} symbols`);
  if (module.versions.size === 0)
    throw none(
      module,
      'which has no CRCs of the symbols it needs, as its kernel was built without CONFIG_MODVERSIONS',
    );
  const others = new Set(all.flatMap((each) => (each === module ? [] : each.exports)));
  // It is what the kernel compares first, and no module's.
  others.delete('module_layout');
  const bare = module.imports.find((each) => !others.has(each) && !module.versions.has(each));
  if (bare !== undefined)
    throw none(module, `which has no CRC of the symbol ${bare.slice(0, 200)} that it needs`);
  return [...module.versions].flatMap(([name, crc]) =>
    others.has(name) ? [] : [[name, crc.toString(16).padStart(8, '0')] as const],
  );
};

const traitsOf = (module: ModuleFile): string =>
  (modinfoValue(module, 'vermagic') ?? '').trim().split(' ').slice(1).join(' ');

const namespacesOf = ({ modinfo }: ModuleFile): readonly string[] => [
  ...new Set(
    modinfo.flatMap(([key, value]) =>
      key === 'import_ns' && namespace.safeParse(value).success ? [value] : [],
    ),
  ),
];
