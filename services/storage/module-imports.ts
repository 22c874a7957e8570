import type { Digest } from '../core/digest.ts';
import { importsOf, type Imports } from '../core/packages/module-imports.ts';
import { readModuleFile, type ModuleFile } from '../core/module/module-file.ts';
import type { Blobs } from './blobs.ts';

/** Modules that are packed together, as stored. */
export type StoredModules = readonly { readonly signed: Digest; readonly size: number }[];

/** What each of some modules imports, by their bytes. Throws as `importsOf`, `readModuleFile` and `Blobs.read` do. */
export const readImports = async (
  blobs: Pick<Blobs, 'read'>,
  modules: StoredModules,
): Promise<readonly Imports[]> => {
  const files: ModuleFile[] = [];
  for (const { signed, size } of modules)
    files.push(readModuleFile(await blobs.read(signed, size)));
  return importsOf(files);
};

/** The same, which reads modules of the same digests once in its time. */
export const createImportsReader = (
  blobs: Pick<Blobs, 'read'>,
): ((modules: StoredModules) => Promise<readonly Imports[]>) => {
  const known = new Map<string, readonly Imports[]>();
  return async (modules) => {
    const key = modules.map(({ signed }) => signed).join(' ');
    const imports = known.get(key) ?? (await readImports(blobs, modules));
    known.set(key, imports);
    return imports;
  };
};
