import type { DkmsConf } from './dkms-conf.ts';
import { KilnError } from './errors.ts';
import type { Kernel } from './kernel.ts';
import type { Source } from './source.ts';

/** What to run, in order, worked out from the source for one kernel. */
export interface Recipe {
  readonly steps: readonly Step[];
  /** What must come out. `every` takes all `.ko` files that the build leaves (plain Kbuild). */
  readonly modules:
    | { readonly kind: 'listed'; readonly list: readonly RecipeModule[] }
    | { readonly kind: 'every' };
}

/** One command of the build. A step that `mayFail` is DKMS's `CLEAN`, whose status DKMS ignores too. */
export interface Step {
  readonly label: 'patch' | 'pre-build' | 'clean' | 'make';
  readonly command: string;
  readonly mayFail: boolean;
}

/** A module the build makes. */
export interface RecipeModule {
  /** Relative to the build directory, with `.ko`. */
  readonly path: string;
  readonly name: string;
  readonly strip: boolean;
}

/** Where DKMS itself would build this source; every build of it stands there. */
export const buildDirectory = (source: Pick<Source, 'name' | 'version'>): string =>
  `/var/lib/dkms/${source.name}/${source.version}/build`;

/** Where DKMS keeps the source it copies from. */
export const sourceDirectory = (source: Pick<Source, 'name' | 'version'>): string =>
  `/var/lib/dkms/${source.name}/${source.version}/source`;

/**
 * The recipe DKMS would follow (`prepare_build` and `actual_build` of dkms 3.0.10): patches, PRE_BUILD, CLEAN, MAKE.
 * `jobs` is make's parallelism, which no byte depends on.
 */
export const dkmsRecipe = (
  conf: DkmsConf,
  source: Source,
  kernel: Kernel,
  jobs: number,
): Recipe => {
  if (conf.name !== source.name || conf.version !== source.version) {
    throw new KilnError(
      'bad-source',
      `dkms.conf says ${conf.name}/${conf.version}, but the source was pushed as ${source.name}/${source.version}; push it under its own name`,
    );
  }
  if (conf.modules.length === 0) {
    throw new KilnError(
      'bad-source',
      'dkms.conf lists no module (BUILT_MODULE_NAME, DEST_MODULE_LOCATION)',
    );
  }
  const generic = kbuildCommand(source, kernel);
  const make = (conf.make ?? generic).replace(
    /^make/,
    `make -j${jobs} KERNELRELEASE=${kernel.release}`,
  );
  return {
    steps: [
      ...conf.patches.map((patch): Step => ({
        label: 'patch',
        command: `patch -p1 < ./patches/${shellWord(patch)}`,
        mayFail: false,
      })),
      ...(conf.preBuild === null
        ? []
        : [{ label: 'pre-build', command: `./${conf.preBuild}`, mayFail: false } as const]),
      { label: 'clean', command: conf.clean ?? `${generic} clean`, mayFail: true },
      { label: 'make', command: make, mayFail: false },
    ],
    modules: {
      kind: 'listed',
      list: conf.modules.map((module) => ({
        path: `${module.builtLocation}${module.builtName}.ko`,
        name: module.name,
        strip: module.strip,
      })),
    },
  };
};

/** The recipe for a source without `dkms.conf`: Kbuild itself (`Documentation/kbuild/modules.rst`). */
export const kbuildRecipe = (source: Source, kernel: Kernel, jobs: number): Recipe => ({
  steps: [
    { label: 'make', command: `${kbuildCommand(source, kernel, jobs)} modules`, mayFail: false },
  ],
  modules: { kind: 'every' },
});

const kbuildCommand = (source: Source, kernel: Kernel, jobs?: number): string =>
  `make${jobs === undefined ? '' : ` -j${jobs}`} -C ${kernel.buildDirectory} M=${buildDirectory(source)}`;

const shellWord = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
