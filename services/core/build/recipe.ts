import type { DkmsConf } from '../source/dkms-conf.ts';
import { KilnError } from '../errors.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { SOURCE_NAME, SOURCE_VERSION, type Source } from '../source/source.ts';

/** What to run, in order, worked out from the source for one kernel. */
export interface Recipe {
  readonly steps: readonly Step[];
  /** The modules that the build must make. `every` takes all `.ko` files that it leaves (plain Kbuild). */
  readonly modules:
    | { readonly kind: 'listed'; readonly list: readonly RecipeModule[] }
    | { readonly kind: 'every' };
  /** Whether hosts may link what comes out to other kernels that it fits. */
  readonly mayLink: boolean;
  /** Directives of its `dkms.conf` that Kiln does not follow (`PASSED_OVER`). */
  readonly passedOver: readonly string[];
}

/**
 * One step of the build. `one` is a shell command. `spread` is a shell command whose makes all run in parallel, with a second try without
 * that if it fails. `clean` is run only where somebody has built in the source before. `script` is a program of the source with arguments,
 * passed over with a warning if it is not executable, as DKMS does.
 */
export interface Step {
  readonly label: 'patch' | 'pre-build' | 'clean' | 'make' | 'post-build';
  readonly command: string;
  readonly kind: 'one' | 'spread' | 'clean' | 'script';
}

/** A module the build makes. */
export interface RecipeModule {
  /** Relative to the build directory, with `.ko`. */
  readonly path: string;
  readonly name: string;
  readonly strip: boolean;
}

/** The module's own name: `DEST_MODULE_NAME` names only the file. */
export const builtNameOf = (name: string, { modules }: Pick<Recipe, 'modules'>): string => {
  const listed = modules.kind === 'listed' ? modules.list.find((each) => each.name === name) : null;
  return listed?.path.split('/').at(-1)?.slice(0, -'.ko'.length) ?? name;
};

/** DKMS's directory for one version of a source; the build may write there. */
export const packageDirectory = ({ name, version }: Pick<Source, 'name' | 'version'>): string =>
  `/var/lib/dkms/${name}/${version}`;

/** Where DKMS itself would build this source; every build of it stands there. */
export const buildDirectory = (source: Pick<Source, 'name' | 'version'>): string =>
  `${packageDirectory(source)}/build`;

/** The directory of a source, read-only in the sandbox. DKMS's own tree has a link to it. */
export const sourceDirectory = ({ name, version }: Pick<Source, 'name' | 'version'>): string =>
  `/usr/src/${name}-${version}`;

/** DKMS's directory for what it built of a source for one kernel: `module/`, and what `POST_BUILD` puts there. */
export const resultDirectory = (
  source: Pick<Source, 'name' | 'version'>,
  { release, arch }: Pick<Kernel, 'release' | 'arch'>,
): string => `${packageDirectory(source)}/${release}/${arch}`;

/** The directories that a kernel's modules are installed to. A build may write there, as some install what they make; it is thrown away. */
export const installDirectories = ({ release }: Pick<Kernel, 'release'>): readonly string[] =>
  ['kernel', 'updates', 'extra'].map((name) => `/lib/modules/${release}/${name}`);

/** DKMS's directory for all versions of a source. */
export const namedDirectory = ({ name }: Pick<Source, 'name'>): string => `/var/lib/dkms/${name}`;

/** DKMS's link in there to what is built of a source for one kernel, and where it leads. */
export const kernelLink = (
  { version }: Pick<Source, 'version'>,
  { release, arch }: Pick<Kernel, 'release' | 'arch'>,
): { readonly name: string; readonly to: string } => ({
  name: `kernel-${release}-${arch}`,
  to: `${version}/${release}/${arch}`,
});

/** DKMS's variable `kernel_source_dir`. */
export const kernelSourceDir = ({ release }: Pick<Kernel, 'release'>): string =>
  `/lib/modules/${release}/build`;

/**
 * Whether a conf says the source's own name and version. A word that can be neither, such as a placeholder that nobody has replaced
 * (Debian 13's mstflint-dkms has one), says nothing: DKMS itself goes by the name of the source's directory alone.
 */
const isOwnConf = (conf: DkmsConf, source: Source): boolean => {
  const saysNothing = (word: string, pattern: RegExp): boolean =>
    word !== '' && !pattern.test(word);
  return (
    (conf.name === source.name || saysNothing(conf.name, SOURCE_NAME)) &&
    (conf.version === source.version || saysNothing(conf.version, SOURCE_VERSION))
  );
};

/**
 * The recipe DKMS would follow (`prepare_build` and `actual_build` of dkms 3.0.10): patches, PRE_BUILD, CLEAN, MAKE,
 * POST_BUILD. CLEAN is run where the source has something of a build before (dkms 3.2 gave it up, and builds on what is there).
 * `jobs` is make's parallelism, which no byte depends on. The dependencies must be those the source was pushed with: they
 * were built before it.
 */
export const dkmsRecipe = (
  conf: DkmsConf,
  source: Source,
  kernel: Kernel,
  jobs: number,
): Recipe => {
  if (!isOwnConf(conf, source)) {
    throw new KilnError(
      'bad-source',
      `dkms.conf says ${conf.name}/${conf.version}, but the source was pushed as ${source.name}/${source.version}; push it under its own name`,
    );
  }
  // What a source says to need of itself is there when it is built.
  const unannounced = conf.dependencies.filter(
    (name) => name !== source.name && !source.depends.includes(name),
  );
  if (unannounced.length > 0) {
    throw new KilnError(
      'bad-source',
      `dkms.conf’s BUILD_DEPENDS names ${unannounced.join(', ')}, which was not said when the source was pushed; push it with --depends ${unannounced.join(',')}`,
    );
  }
  if (conf.modules.length === 0) {
    throw new KilnError(
      'bad-source',
      'dkms.conf lists no module; set BUILT_MODULE_NAME and DEST_MODULE_LOCATION',
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
        kind: 'one',
      })),
      ...script('pre-build', conf.preBuild),
      { label: 'clean', command: conf.clean ?? `${generic} clean`, kind: 'clean' },
      { label: 'make', command: make, kind: howToMake(make) },
      ...script('post-build', conf.postBuild),
    ],
    modules: {
      kind: 'listed',
      list: conf.modules.map((module) => ({
        path: `${module.builtLocation}${module.builtName}.ko`,
        name: module.name,
        strip: module.strip,
      })),
    },
    mayLink: conf.mayLink,
    passedOver: conf.passedOver,
  };
};

/**
 * The kind of a MAKE command's step. DKMS makes only a `make` at the front of the command parallel; in `(make …; make …)` each runs one
 * job at a time. A source asks for one job by writing `'make'` in quotes (dkms(8)).
 */
const howToMake = (command: string): Step['kind'] =>
  !/['"\\\\]make/.test(command) && (!command.startsWith('make') || /[;&|(\n]/.test(command))
    ? 'spread'
    : 'one';

const script = (label: 'pre-build' | 'post-build', command: string | null): readonly Step[] =>
  command === null ? [] : [{ label, command, kind: 'script' }];

/** The recipe for a source without `dkms.conf`: Kbuild itself (`Documentation/kbuild/modules.rst`). */
export const kbuildRecipe = (source: Source, kernel: Kernel, jobs: number): Recipe => ({
  steps: [
    { label: 'clean', command: `${kbuildCommand(source, kernel)} clean`, kind: 'clean' },
    {
      label: 'make',
      command: `${kbuildCommand(source, kernel, jobs)} modules`,
      kind: 'one',
    },
  ],
  modules: { kind: 'every' },
  mayLink: true,
  passedOver: [],
});

const kbuildCommand = (source: Source, kernel: Kernel, jobs?: number): string =>
  `make${jobs === undefined ? '' : ` -j${jobs}`} -C ${kernelSourceDir(kernel)} M=${buildDirectory(source)}`;

const shellWord = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
