import type { Digest } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import { kabiOf, type Kabi } from '../core/packages/kabi.ts';
import { readModuleFile, type ModuleFile } from '../core/module/module-file.ts';
import type { Blobs } from './blobs.ts';

/** Modules that are packed together, as stored. */
export type StoredModules = readonly { readonly signed: Digest; readonly size: number }[];

/** Tells what modules need of a kernel, by their bytes. Throws as `kabiOf`, `readModuleFile` and `Blobs.read` do. */
export type KabiReader = (modules: StoredModules) => Promise<Kabi>;

/** The most sets of modules that are remembered. */
const REMEMBERED = 200;

/** Reads modules once, as long as no hundreds of others come between; what was refused is remembered, too. */
export const createKabiReader = (blobs: Pick<Blobs, 'read'>): KabiReader => {
  const known = new Map<string, Kabi | KilnError>();
  const read = async (modules: StoredModules): Promise<Kabi | KilnError> => {
    const files: ModuleFile[] = [];
    for (const { signed, size } of modules)
      files.push(readModuleFile(await blobs.read(signed, size)));
    try {
      return kabiOf(files);
    } catch (error) {
      if (error instanceof KilnError) return error;
      throw error;
    }
  };
  return async (modules) => {
    const key = modules.map(({ signed }) => signed).join(' ');
    const found = known.get(key) ?? (await read(modules));
    known.delete(key);
    known.set(key, found);
    const [oldest] = known.keys();
    if (known.size > REMEMBERED && oldest !== undefined) known.delete(oldest);
    if (found instanceof KilnError) throw found;
    return found;
  };
};
