import { holds, PASSED_OVER, valueAt, valuesOf, type EvaluatedConf } from './dkms-evaluation.ts';
import { moduleExclusion, packageExclusion, type ConfTarget } from './dkms-exclusion.ts';
import { KilnError } from '../errors.ts';
import { MODULE_NAME } from '../module/module-file.ts';

/** One module that a `dkms.conf` says will be built. */
export interface DkmsModule {
  readonly builtName: string;
  /** Relative to the build directory, '' or ending in `/`. */
  readonly builtLocation: string;
  readonly name: string;
  readonly strip: boolean;
}

/** A `dkms.conf` for one kernel, with DKMS's defaults filled in (source: dkms(8) and `read_conf` of dkms 3.0.10 and 3.2.2). */
export interface DkmsConf {
  readonly name: string;
  readonly version: string;
  /** The make command as written, or `null` for DKMS's default. */
  readonly make: string | null;
  /** The command that removes what a build left, likewise. */
  readonly clean: string | null;
  readonly preBuild: string | null;
  readonly postBuild: string | null;
  readonly patches: readonly string[];
  /** Other packages, by name, whose modules this one is built against. */
  readonly dependencies: readonly string[];
  /** Whether its modules may be linked to other kernels that they fit (not `NO_WEAK_MODULES`). */
  readonly mayLink: boolean;
  /** Directives that it sets and Kiln does not follow (`PASSED_OVER`). */
  readonly passedOver: readonly string[];
  /** The modules for this kernel. */
  readonly modules: readonly DkmsModule[];
  /** Why this kernel is excluded (`BUILD_EXCLUSIVE_*`), or `null`. */
  readonly excluded: string | null;
}

const MAX_MODULES = 256;

/** What the evaluated conf says for one kernel. Throws `KilnError('bad-source')` naming the directive that is wrong. */
export const readDkmsConf = (conf: EvaluatedConf, target: ConfTarget): DkmsConf => {
  const modules = readModules(conf).map((module, index) => ({
    module,
    excluded: moduleExclusion(conf, index, target),
  }));
  const left = modules.filter(({ excluded }) => excluded === null);
  mustDiffer(left.map(({ module }) => module));
  const none = modules.length > 0 && left.length === 0 ? modules[0] : undefined;
  return {
    name: valueAt(conf, 'PACKAGE_NAME'),
    version: valueAt(conf, 'PACKAGE_VERSION'),
    make: chooseMake(conf),
    clean: valueAt(conf, 'CLEAN') || null,
    preBuild: valueAt(conf, 'PRE_BUILD') || null,
    postBuild: valueAt(conf, 'POST_BUILD') || null,
    patches: valuesOf(conf, 'PATCH').flatMap(([index, patch]) =>
      holds(conf, 'PATCH_MATCH', index, true) ? [patch] : [],
    ),
    dependencies: valuesOf(conf, 'BUILD_DEPENDS').map(([, name]) => name),
    mayLink: !/^y/i.test(valueAt(conf, 'NO_WEAK_MODULES')),
    passedOver: Object.keys(PASSED_OVER).filter((name) =>
      valuesOf(conf, name).some(([, value]) => !/^no?$/i.test(value)),
    ),
    modules: left.map(({ module }) => module),
    excluded: packageExclusion(conf, target) ?? none?.excluded ?? null,
  };
};

/** Throws where two modules have one name, as one of them would be lost. dkms 3.4 refuses that even where they are for different kernels. */
const mustDiffer = (modules: readonly DkmsModule[]): void => {
  const seen = new Set<string>();
  for (const { builtLocation, builtName, name } of modules) {
    const built = `BUILT_MODULE_NAME ${builtLocation}${builtName}`;
    for (const each of [built, `DEST_MODULE_NAME ${name}`]) {
      if (seen.has(each))
        throw bad(`dkms.conf lists two modules with the same ${each}; rename one`);
      seen.add(each);
    }
  }
};

const bad = (message: string): KilnError => new KilnError('bad-source', message);

/** The last `MAKE` whose `MAKE_MATCH` holds; else `MAKE[0]`, unless it has one that does not; else DKMS's default. */
const chooseMake = (conf: EvaluatedConf): string | null => {
  const matched = valuesOf(conf, 'MAKE')
    .filter(([index]) => holds(conf, 'MAKE_MATCH', index, false))
    .at(-1);
  const fallback = holds(conf, 'MAKE_MATCH', 0, true) ? valueAt(conf, 'MAKE') : '';
  return matched?.[1] ?? (fallback || null);
};

const readModules = (conf: EvaluatedConf): readonly DkmsModule[] => {
  const arrays = [
    'BUILT_MODULE_NAME',
    'BUILT_MODULE_LOCATION',
    'DEST_MODULE_NAME',
    'DEST_MODULE_LOCATION',
  ];
  const count = Math.max(0, ...arrays.map((name) => conf.get(name)?.size ?? 0));
  if (count > MAX_MODULES)
    throw bad(`dkms.conf lists ${count} modules, and may list ${MAX_MODULES}; split the source`);
  return Array.from({ length: count }, (_, index) => readModule(conf, index, count === 1));
};

const readModule = (conf: EvaluatedConf, index: number, isOnly: boolean): DkmsModule => {
  const at = (name: string): string => valueAt(conf, name, index);
  const builtName = at('BUILT_MODULE_NAME') || (isOnly ? valueAt(conf, 'PACKAGE_NAME') : '');
  if (builtName === '')
    throw bad(`dkms.conf does not set BUILT_MODULE_NAME[${index}]; name the module there`);
  const name = at('DEST_MODULE_NAME') || builtName;
  for (const each of [builtName, name]) {
    if (!MODULE_NAME.test(each))
      throw bad(
        `dkms.conf names a module ${JSON.stringify(each)}; give the name alone, without .ko`,
      );
  }
  const location = at('BUILT_MODULE_LOCATION');
  if (location.startsWith('/') || location.split('/').includes('..')) {
    throw bad(
      `dkms.conf’s BUILT_MODULE_LOCATION[${index}] leaves the build directory; give a path inside it`,
    );
  }
  // The value is only checked, as DKMS does: hosts put modules into Kiln's own directory, so a `..` in it (OFED, xpmem) does no harm.
  if (!/^\/(kernel|updates|extra)/.test(at('DEST_MODULE_LOCATION'))) {
    throw bad(
      `dkms.conf’s DEST_MODULE_LOCATION[${index}] must begin with /kernel, /updates or /extra`,
    );
  }
  const strip = at('STRIP') || valueAt(conf, 'STRIP');
  return {
    builtName,
    builtLocation: location === '' || location.endsWith('/') ? location : `${location}/`,
    name,
    strip: !/^[nN]/.test(strip),
  };
};
