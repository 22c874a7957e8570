import { Readable } from 'node:stream';
import { DEFAULT_ARCHIVE_LIMITS } from '../core/archive-rules.ts';
import { KilnError } from '../core/errors.ts';
import type { BuiltModule } from '../core/jobs.ts';
import type { Kernel } from '../core/kernel.ts';
import { checkModule, readModuleFile } from '../core/module-file.ts';
import { splitModule } from '../core/module-signature.ts';
import type { Recipe } from '../core/recipe.ts';
import type { Blobs } from '../storage/blobs.ts';
import { readArchive } from '../storage/read-archive.ts';

const MAX_MODULES = 256;

/**
 * Takes the modules out of the archive that the sandbox handed out and stores them. The archive is input like any other:
 * each must be a file NAME.ko, an unsigned module of that name for that kernel, and each module of the recipe must be there.
 * Throws `KilnError('bad-archive' | 'unverified' | 'too-large')`.
 */
export const collectModules = async (
  archive: Buffer,
  recipe: Recipe,
  kernel: Kernel,
  blobs: Blobs,
): Promise<readonly BuiltModule[]> => {
  const limits = { ...DEFAULT_ARCHIVE_LIMITS, entries: MAX_MODULES, bytes: archive.length };
  const found = new Map<string, Buffer>();
  await readArchive(
    Readable.from([archive], { objectMode: false }),
    async (entry, body) => {
      const name = /^([A-Za-z0-9_-]{1,64})\.ko$/.exec(entry.path)?.[1];
      if (entry.kind !== 'file' || name === undefined) {
        throw new KilnError(
          'bad-archive',
          `the build put out ${JSON.stringify(entry.path)}, which is no module`,
        );
      }
      const pieces: Buffer[] = [];
      for await (const piece of body) pieces.push(piece);
      found.set(name, Buffer.concat(pieces));
    },
    limits,
  );
  if (recipe.modules.kind === 'listed') {
    const missing = recipe.modules.list.find(({ name }) => !found.has(name));
    if (missing !== undefined)
      throw new KilnError('bad-archive', `the build put out no ${missing.name}.ko`);
  }
  const modules: BuiltModule[] = [];
  for (const [name, bytes] of found) {
    const module = readModuleFile(bytes);
    const expected = { name, arch: kernel.arch, vermagic: kernel.vermagic };
    checkModule(module, expected);
    if (splitModule(bytes) !== null)
      throw new KilnError('unverified', `the build signed ${name}.ko itself`);
    const { digest } = await blobs.put(Readable.from([bytes], { objectMode: false }), {
      limit: bytes.length,
    });
    modules.push({ name, unsigned: digest, size: bytes.length, modinfo: module.modinfo });
  }
  return modules.sort((a, b) => (a.name < b.name ? -1 : 1));
};
