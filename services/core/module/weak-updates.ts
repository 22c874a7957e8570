import { KilnError } from '../errors.ts';
import { SYMVERS_LIMIT, type Symvers } from './kabi.ts';
import type { Arch } from '../arch.ts';
import { modinfoValue, type ModuleFile } from './module-file.ts';

/** The terms on which a module may import a symbol, from a `Module.symvers`. */
export interface ExportTerms {
  /** The namespace it must import; '' for none. */
  readonly namespace: string;
  readonly isGplOnly: boolean;
}

/** Reads who may use which symbol from a `Module.symvers`. Free symbols, and malformed lines, are left out. */
export const parseExportTerms = (text: string): ReadonlyMap<string, ExportTerms> => {
  if (text.length > SYMVERS_LIMIT)
    throw new KilnError(
      'too-large',
      `the Module.symvers is over ${SYMVERS_LIMIT} bytes, the most that Kiln reads`,
    );
  const terms = new Map<string, ExportTerms>();
  for (const line of text.split('\n')) {
    if (line.length > 1000) continue;
    const [, symbol = '', ...others] = line.split('\t');
    const kind = others.findIndex((word) => word.startsWith('EXPORT_'));
    // Linux 5.4 and 5.5 had the namespace before the module.
    const namespace = (kind === 2 ? others[0] : others[kind + 1]) ?? '';
    const isGplOnly = others[kind]?.includes('_GPL') ?? false;
    if (kind >= 1 && (namespace !== '' || isGplOnly)) terms.set(symbol, { namespace, isGplOnly });
  }
  return terms;
};

/** A kernel that a module is to be linked on. */
export interface WeakUpdateTarget {
  readonly release: string;
  readonly arch: Arch;
  /** The vermagic of its own modules. */
  readonly vermagic: string;
  /** The exports of the kernel, then of the modules that are linked with ours; a symbol's CRC is that of the first that has it. */
  readonly exporters: readonly Symvers[];
  /** The kernel's terms for symbols (`parseExportTerms`). Those that are left out have none. */
  readonly terms: ReadonlyMap<string, ExportTerms>;
}

/**
 * What of a release tells the kernels of one distribution apart that differ in their configuration, not in their age:
 * `cloud-amd64` of `6.1.0-56-cloud-amd64`, `el9.x86_64+rt` of `5.14.0-427.13.1.el9_4.x86_64+rt`; '' where there is none.
 */
export const flavourOf = (release: string): string => {
  const rpm = /\.([a-z]+[0-9]+[a-z]*)(?:_[0-9]+)*\.([A-Za-z0-9_]+(?:\+[A-Za-z0-9_-]+)?)$/.exec(
    release,
  );
  if (rpm !== null) return `${rpm[1] ?? ''}.${rpm[2] ?? ''}`;
  const [, ...words] = release.split('-');
  const first = words.findIndex((word) => !/^(?:[0-9]|rc[0-9])/.test(word));
  return first < 0 ? '' : words.slice(first).join('-');
};

const SHOWN = 5;

const named = (symbols: readonly string[]): string =>
  symbols.slice(0, SHOWN).join(', ') +
  (symbols.length > SHOWN ? ` and ${symbols.length - SHOWN} more` : '');

/** Licenses that may use GPL-only symbols (source: `include/linux/license.h`). */
const GPL_LICENSES = new Set([
  'GPL',
  'GPL v2',
  'GPL and additional rights',
  'Dual BSD/GPL',
  'Dual MIT/GPL',
  'Dual MPL/GPL',
]);

/** Whether a module may use GPL-only symbols, by what it says of its license. */
export const isGplModule = (module: ModuleFile): boolean =>
  GPL_LICENSES.has(modinfoValue(module, 'license') ?? '');

/**
 * Whether a module that was built for one kernel may be linked on another: `null` if it is proven, else why not, in words (one a
 * rule, a handful of symbols each). The proof: both kernels keep CRCs, are of one arch and flavour and want the same vermagic but for the
 * release; every symbol it imports is exported by the other kernel, on terms it fulfils, with the CRC it was built against.
 */
export const whyNoWeakUpdate = (
  module: ModuleFile,
  to: WeakUpdateTarget,
): readonly string[] | null => {
  const vermagic = (modinfoValue(module, 'vermagic') ?? '').trim();
  const [from = '', ...traits] = vermagic.split(' ');
  const [, ...wanted] = to.vermagic.trim().split(' ');
  const crcOf = (symbol: string): number =>
    to.exporters.find((symvers) => symvers.has(symbol))?.get(symbol) ?? 0;
  const isExported = (symbol: string): boolean =>
    to.exporters.some((symvers) => symvers.has(symbol));
  const namespaces = new Set(
    module.modinfo.flatMap(([key, value]) => (key === 'import_ns' ? [value] : [])),
  );
  const isGpl = isGplModule(module);
  // `module_layout` is not among the imports, but the kernel checks its CRC first.
  const needed = [...new Set([...module.imports, 'module_layout'])];
  const exported = needed.filter(isExported);
  const rules: readonly (readonly [string, readonly string[]])[] = [
    ['it does not export', needed.filter((symbol) => !isExported(symbol))],
    [
      'it has other versions (CRCs) of',
      [...module.versions].flatMap(([symbol, crc]) =>
        isExported(symbol) && crcOf(symbol) !== crc ? [symbol] : [],
      ),
    ],
    [
      'no version (CRC) is known of',
      exported.filter((symbol) => crcOf(symbol) === 0 || !module.versions.has(symbol)),
    ],
    [
      'the module does not import the namespace of',
      exported.filter((symbol) => {
        const namespace = to.terms.get(symbol)?.namespace ?? '';
        return namespace !== '' && !namespaces.has(namespace);
      }),
    ],
    [
      'it exports to GPL modules alone',
      isGpl ? [] : exported.filter((symbol) => to.terms.get(symbol)?.isGplOnly === true),
    ],
  ];
  const reasons = [
    module.arch === to.arch ? '' : `it is for ${to.arch}, the module for ${module.arch ?? '?'}`,
    flavourOf(from) === flavourOf(to.release)
      ? ''
      : `its flavour is ${flavourOf(to.release)}, the module’s ${flavourOf(from)}`,
    traits.join(' ') === wanted.join(' ')
      ? ''
      : `it wants vermagic "${wanted.join(' ')}", the module has "${traits.join(' ')}"`,
    traits.includes('modversions') ? '' : 'without CONFIG_MODVERSIONS there is nothing to compare',
    ...rules.map(([words, symbols]) => (symbols.length === 0 ? '' : `${words} ${named(symbols)}`)),
  ].filter((reason) => reason !== '');
  return reasons.length === 0 ? null : reasons;
};
