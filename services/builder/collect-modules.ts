import { Readable } from 'node:stream';
import { pack } from 'tar-stream';
import { DEFAULT_TARBALL_LIMITS } from '../core/tree/tarball-rules.ts';
import type { Digest } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import { MODINFO_LIMIT, modinfoSize, type BuiltModule } from '../core/jobs/jobs.ts';
import type { Kernel } from '../core/kernel/kernel.ts';
import { checkImports, parseSymvers, type Symvers } from '../core/module/kabi.ts';
import { checkModule, readModuleFile } from '../core/module/module-file.ts';
import { splitModule } from '../core/module/module-signature.ts';
import { MODULES } from '../core/schemas/domain.ts';
import { builtNameOf, type Recipe } from '../core/build/recipe.ts';
import type { Blobs } from '../storage/blobs.ts';
import { readTarball } from '../storage/read-tarball.ts';

/** The most files and bytes that `POST_BUILD` may leave for other builds: some headers and symbols. */
const MAX_EXPORTS = 1000;
/** Where some POST_BUILDs put the symbols that modules export, for dependents. */
const BESIDE = 'module/Module.symvers';
const EXPORTS_LIMIT = 64 * 1024 ** 2;

/** A build's result: its modules, and a tarball of the exports for builds that are built against it. */
export interface Collected {
  readonly modules: readonly BuiltModule[];
  readonly exports: Digest;
}

/**
 * Takes the modules out of the tarball that the sandbox handed out, and stores them. The tarball is checked like any input: each module
 * must be a file module/NAME.ko, unsigned, of that name and for that kernel, and every module of the recipe must be there. All other files
 * are the exports for other builds. `exporters` are the symbols of the kernel, and then of what the build was built against, `null` if those
 * are not known. Throws `KilnError('bad-tarball' | 'unverified' | 'too-large')`.
 */
export const collectModules = async (
  tarball: Buffer,
  recipe: Recipe,
  kernel: Kernel,
  exporters: readonly Symvers[] | null,
  blobs: Blobs,
): Promise<Collected> => {
  const limits = {
    ...DEFAULT_TARBALL_LIMITS,
    entries: MODULES + MAX_EXPORTS,
    bytes: tarball.length,
  };
  const found = new Map<string, Buffer>();
  const left: { readonly path: string; readonly bytes: Buffer }[] = [];
  await readTarball(
    Readable.from([tarball], { objectMode: false }),
    async (entry, body) => {
      if (entry.kind === 'directory') return;
      const name = /^module\/([A-Za-z0-9_-]{1,64})\.ko$/.exec(entry.path)?.[1];
      if (
        entry.kind !== 'file' ||
        (entry.path.startsWith('module/') && name === undefined && entry.path !== BESIDE)
      ) {
        throw new KilnError(
          'bad-tarball',
          `the build handed out ${JSON.stringify(entry.path)}, which is neither a module nor a plain file`,
        );
      }
      const pieces: Buffer[] = [];
      for await (const piece of body) pieces.push(piece);
      const bytes = Buffer.concat(pieces);
      if (name === undefined) left.push({ path: entry.path, bytes });
      else found.set(name, bytes);
    },
    limits,
  );
  if (found.size === 0) throw new KilnError('bad-tarball', 'the build left no module');
  if (recipe.modules.kind === 'listed') {
    const missing = recipe.modules.list.find(({ name }) => !found.has(name));
    if (missing !== undefined)
      throw new KilnError(
        'bad-tarball',
        `the build left no ${missing.name}.ko, which dkms.conf lists`,
      );
  }
  // The build's own list of symbols counts for its own modules, whoever else has symbols of those names, and never for a symbol of the kernel.
  const own = left.find(({ path }) => path === 'Module.symvers')?.bytes.toString('latin1') ?? '';
  const [ofKernel, ...ofOthers] = exporters ?? [];
  const symvers = ofKernel === undefined ? null : [ofKernel, parseSymvers(own), ...ofOthers];
  const modules: BuiltModule[] = [];
  for (const [name, bytes] of found) {
    const module = readModuleFile(bytes);
    const expected = { name: builtNameOf(name, recipe), ...kernel };
    checkModule(module, expected);
    if (symvers !== null) checkImports(module, symvers);
    if (splitModule(bytes) !== null)
      throw new KilnError(
        'unverified',
        `the build signed ${name}.ko itself; switch that off in the source, as Kiln signs what it builds`,
      );
    const { digest } = await blobs.put(Readable.from([bytes], { objectMode: false }), {
      limit: bytes.length,
    });
    modules.push({ name, unsigned: digest, size: bytes.length, modinfo: module.modinfo });
  }
  if (modinfoSize(modules) > MODINFO_LIMIT) {
    throw new KilnError(
      'too-large',
      `the modinfo of all modules is over ${MODINFO_LIMIT} characters, the limit of this service`,
    );
  }
  return {
    modules: modules.sort((a, b) => (a.name < b.name ? -1 : 1)),
    exports: await storeExports(left, blobs),
  };
};

const storeExports = async (
  left: readonly { readonly path: string; readonly bytes: Buffer }[],
  blobs: Blobs,
): Promise<Digest> => {
  const size = left.reduce((sum, { bytes }) => sum + bytes.length, 0);
  if (size > EXPORTS_LIMIT || left.length > MAX_EXPORTS) {
    throw new KilnError(
      'too-large',
      `POST_BUILD left ${left.length} files of ${size} bytes in all; the limit is ${MAX_EXPORTS} files of ${EXPORTS_LIMIT} bytes`,
    );
  }
  const tar = pack();
  for (const { path, bytes } of left.toSorted((a, b) => (a.path < b.path ? -1 : 1)))
    tar.entry({ name: path, mtime: new Date(0) }, bytes);
  tar.finalize();
  return (await blobs.put(Readable.from(tar, { objectMode: false }), { limit: EXPORTS_LIMIT * 2 }))
    .digest;
};
