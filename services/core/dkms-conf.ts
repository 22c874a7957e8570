import { KilnError } from './errors.ts';

/** What a `dkms.conf` set when bash evaluated it (in the sandbox): each variable an array, by index. */
export type EvaluatedConf = ReadonlyMap<string, ReadonlyMap<number, string>>;

/** One module that a `dkms.conf` says will be built. */
export interface DkmsModule {
  readonly builtName: string;
  /** Relative to the build directory, '' or ending in `/`. */
  readonly builtLocation: string;
  readonly name: string;
  /** As given: `/extra`, `/updates/dkms`, `/kernel/drivers/net`. */
  readonly destination: string;
  readonly strip: boolean;
}

/** A `dkms.conf` for one kernel, with DKMS's defaults filled in (source: dkms(8) and `read_conf` of dkms 3.0.10). */
export interface DkmsConf {
  readonly name: string;
  readonly version: string;
  /** The make command as written, or `null` for DKMS's default. */
  readonly make: string | null;
  readonly clean: string | null;
  readonly preBuild: string | null;
  readonly patches: readonly string[];
  readonly modules: readonly DkmsModule[];
  /** Why this kernel is excluded (`BUILD_EXCLUSIVE_*`), or `null`. */
  readonly excluded: string | null;
}

/** The kernel a `dkms.conf` is read for. */
export interface ConfTarget {
  readonly release: string;
  readonly arch: string;
}

/** Variables the evaluation hands out. `REFUSED` are those Kiln cannot honour yet: they are refused by name, never ignored. */
const HONOURED = [
  'PACKAGE_NAME',
  'PACKAGE_VERSION',
  'BUILT_MODULE_NAME',
  'BUILT_MODULE_LOCATION',
  'DEST_MODULE_NAME',
  'DEST_MODULE_LOCATION',
  'STRIP',
  'MAKE',
  'MAKE_MATCH',
  'CLEAN',
  'PATCH',
  'PATCH_MATCH',
  'PRE_BUILD',
  'BUILD_EXCLUSIVE_KERNEL',
  'BUILD_EXCLUSIVE_ARCH',
] as const;
const REFUSED = [
  'BUILD_DEPENDS',
  'POST_BUILD',
  'BUILD_EXCLUSIVE_KERNEL_MIN',
  'BUILD_EXCLUSIVE_KERNEL_MAX',
  'BUILD_EXCLUSIVE_CONFIG',
] as const;

/** The names of all variables that the evaluation in the sandbox prints. */
export const DKMS_VARIABLES: readonly string[] = [...HONOURED, ...REFUSED];

/**
 * Patterns of a conf are bash's, and hostile: bash matches them, in the sandbox, and the evaluation says `yes` under
 * this name where one holds for the kernel.
 */
const HOLDS = '_HOLDS';
const PATTERNS = [
  'MAKE_MATCH',
  'PATCH_MATCH',
  'BUILD_EXCLUSIVE_KERNEL',
  'BUILD_EXCLUSIVE_ARCH',
] as const;
const ANSWERS: readonly string[] = [
  ...DKMS_VARIABLES,
  ...PATTERNS.map((name) => `${name}${HOLDS}`),
];

const MAX_MODULES = 256;

/**
 * Reads the evaluation's answer: `NAME NUL INDEX NUL VALUE NUL` for each value.
 * It comes out of a sandbox, so anything out of form throws `KilnError('bad-source')`.
 */
export const parseEvaluation = (answer: Buffer): EvaluatedConf => {
  const fields = answer.toString('utf8').split('\0');
  if (fields.pop() !== '' || fields.length % 3 !== 0) {
    throw new KilnError('bad-source', 'the evaluation of dkms.conf gave an answer out of form');
  }
  const conf = new Map<string, Map<number, string>>();
  for (let at = 0; at < fields.length; at += 3) {
    const [name = '', index = '', value = ''] = fields.slice(at, at + 3);
    if (!ANSWERS.includes(name) || !/^\d{1,4}$/.test(index)) {
      throw new KilnError('bad-source', 'the evaluation of dkms.conf gave an answer out of form');
    }
    const values = conf.get(name) ?? new Map<number, string>();
    values.set(Number(index), value);
    conf.set(name, values);
  }
  return conf;
};

/** What the evaluated conf says for one kernel. Throws `KilnError('bad-source')` naming the directive that is wrong. */
export const readDkmsConf = (conf: EvaluatedConf, target: ConfTarget): DkmsConf => {
  for (const directive of REFUSED) {
    if (conf.has(directive)) throw bad(`dkms.conf uses ${directive}, which Kiln cannot honour yet`);
  }
  const one = (name: string): string => conf.get(name)?.get(0) ?? '';
  const all = (name: string): [number, string][] =>
    [...(conf.get(name) ?? [])].sort(([a], [b]) => a - b);
  return {
    name: one('PACKAGE_NAME'),
    version: one('PACKAGE_VERSION'),
    make: chooseMake(conf),
    clean: one('CLEAN') || null,
    preBuild: one('PRE_BUILD') || null,
    patches: all('PATCH').flatMap(([index, patch]) =>
      patch !== '' && holds(conf, 'PATCH_MATCH', index, true) ? [patch] : [],
    ),
    modules: readModules(conf),
    excluded: exclusion(conf, target),
  };
};

const bad = (message: string): KilnError => new KilnError('bad-source', message);

/** Whether the pattern at an index holds for the kernel; `ifNone` where there is no pattern. */
const holds = (
  conf: EvaluatedConf,
  pattern: (typeof PATTERNS)[number],
  index: number,
  ifNone: boolean,
): boolean =>
  (conf.get(pattern)?.get(index) ?? '') === ''
    ? ifNone
    : conf.get(`${pattern}${HOLDS}`)?.get(index) === 'yes';

/** The last `MAKE` whose `MAKE_MATCH` holds; else `MAKE[0]`, unless it has one that does not; else DKMS's default. */
const chooseMake = (conf: EvaluatedConf): string | null => {
  const makes = [...(conf.get('MAKE') ?? [])].sort(([a], [b]) => a - b);
  const matched = makes
    .filter(([index, make]) => make !== '' && holds(conf, 'MAKE_MATCH', index, false))
    .at(-1);
  const fallback = holds(conf, 'MAKE_MATCH', 0, true) ? conf.get('MAKE')?.get(0) : undefined;
  return matched?.[1] ?? (fallback || null);
};

const exclusion = (conf: EvaluatedConf, target: ConfTarget): string | null => {
  const facts = {
    BUILD_EXCLUSIVE_KERNEL: target.release,
    BUILD_EXCLUSIVE_ARCH: target.arch,
  } as const;
  for (const directive of ['BUILD_EXCLUSIVE_KERNEL', 'BUILD_EXCLUSIVE_ARCH'] as const) {
    if (holds(conf, directive, 0, true)) continue;
    return `${directive}="${conf.get(directive)?.get(0) ?? ''}" does not match ${facts[directive]}`;
  }
  return null;
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
    throw bad(`dkms.conf lists ${count} modules; the limit is ${MAX_MODULES}`);
  const at = (name: string, index: number): string => conf.get(name)?.get(index) ?? '';
  return Array.from({ length: count }, (_, index) => {
    const onlyOne = conf.get('DEST_MODULE_LOCATION')?.size === 1;
    const builtName = at('BUILT_MODULE_NAME', index) || (onlyOne ? at('PACKAGE_NAME', 0) : '');
    if (builtName === '') throw bad(`dkms.conf names no BUILT_MODULE_NAME[${index}]`);
    const name = at('DEST_MODULE_NAME', index) || builtName;
    for (const each of [builtName, name]) {
      if (!/^[A-Za-z0-9_-]{1,64}$/.test(each))
        throw bad(
          `dkms.conf names a module ${JSON.stringify(each)}; give the name alone, without .ko`,
        );
    }
    const location = at('BUILT_MODULE_LOCATION', index);
    if (location.startsWith('/') || location.split('/').includes('..')) {
      throw bad(`dkms.conf’s BUILT_MODULE_LOCATION[${index}] leaves the build directory`);
    }
    const destination = at('DEST_MODULE_LOCATION', index);
    if (!/^\/(kernel|updates|extra)/.test(destination) || destination.split('/').includes('..')) {
      throw bad(
        `dkms.conf’s DEST_MODULE_LOCATION[${index}] must begin with /kernel, /updates or /extra`,
      );
    }
    const strip = at('STRIP', index) || at('STRIP', 0);
    return {
      builtName,
      builtLocation: location === '' || location.endsWith('/') ? location : `${location}/`,
      name,
      destination,
      strip: !/^[nN]/.test(strip),
    };
  });
};
