import { join } from 'node:path';
import { KilnError } from '../../services/core/errors.ts';
import { parseSymvers, type Symvers } from '../../services/core/module/kabi.ts';
import { optionsDigest, parseKernelConfig } from '../../services/core/kernel/kernel-config.ts';
import {
  modinfoValue,
  readModuleFile,
  type ModuleFile,
} from '../../services/core/module/module-file.ts';
import { bootConfig, inModules, type Host } from '../host/host.ts';
import { inTree, readModule } from '../host/kernel-modules.ts';
import { hostSymbols } from './weak-updates.ts';

/** The facts that a host's own files tell of one of its kernels. */
export interface OwnKernel {
  readonly release: string;
  /** The digest of the options in `/boot/config-RELEASE`; `null` where there is none. */
  readonly options: string | null;
  /** The vermagic of the kernel's own modules; `null` where it came without any. */
  readonly vermagic: string | null;
  /** The symbols' CRCs that its own modules were built against, then those of its `Module.symvers`, as far as they are here. */
  readonly exporters: readonly Symvers[];
}

/** Modules of the kernel's own that are read for their CRCs: any has that of `module_layout`, which changes with struct module. */
const READ = 8;

/** Reads what is here of a kernel. */
export const readOwnKernel = async (host: Host, release: string): Promise<OwnKernel> => {
  const config = await bootConfig(host, release);
  const own: ModuleFile[] = [];
  for (const path of await (await inTree(host, release)).some(READ)) {
    // A module that cannot be read here (xz may be missing) is passed over.
    const bytes = await readModule(join(host.root, inModules(release, path))).catch(onlyKiln);
    if (bytes !== null) own.push(readModuleFile(bytes));
  }
  const symbols = await hostSymbols(host, release);
  const [first] = own;
  return {
    release,
    options: config === null ? null : optionsDigest(parseKernelConfig(config)),
    vermagic: first === undefined ? null : (modinfoValue(first, 'vermagic')?.trim() ?? null),
    exporters: [
      ...own.map(({ versions }) => versions),
      ...(symbols === null ? [] : [parseSymvers(symbols.text)]),
    ],
  };
};

const onlyKiln = (error: unknown): null => {
  if (error instanceof KilnError) return null;
  throw error;
};

const SHOWN = 5;

/**
 * Throws `unverified` where a module was built for another kernel than the host's: as far as the host can tell, the configuration, the
 * vermagic or the CRCs of imported symbols differ.
 */
export const mustFitKernel = (
  kernel: OwnKernel,
  built: { readonly name: string; readonly options: unknown; readonly modules: readonly Buffer[] },
): void => {
  const bad = (what: string): KilnError =>
    new KilnError(
      'unverified',
      `${built.name} was built for another kernel of the release ${kernel.release} than is here: ${what}; nothing was installed. Send this one’s headers (kiln kernel push), and install again`,
    );
  if (kernel.options !== null && built.options !== kernel.options)
    throw bad(`its configuration is not that of /boot/config-${kernel.release}`);
  for (const module of built.modules.map(readModuleFile)) {
    const vermagic = (modinfoValue(module, 'vermagic') ?? '').trim();
    if (kernel.vermagic !== null && vermagic !== kernel.vermagic)
      throw bad(
        `its vermagic is "${vermagic}", that of the kernel’s own modules "${kernel.vermagic}"`,
      );
    const others = [...module.versions].flatMap(([symbol, crc]) => {
      const own = kernel.exporters.find((each) => each.has(symbol))?.get(symbol) ?? 0;
      return own === 0 || own === crc ? [] : [symbol];
    });
    if (others.length > 0)
      throw bad(
        `other versions (CRCs) of ${others.slice(0, SHOWN).join(', ')}${others.length > SHOWN ? ` and ${others.length - SHOWN} more` : ''}`,
      );
  }
};
