import { KilnError } from '../errors.ts';

/** What a `dkms.conf` set when bash evaluated it (in the sandbox): each variable an array, by index. */
export type EvaluatedConf = ReadonlyMap<string, ReadonlyMap<number, string>>;

/**
 * Directives that are patterns of bash. They are hostile, so bash matches them in the sandbox: the evaluation has `yes` under
 * `NAME_HOLDS` where a pattern holds for the kernel.
 */
const PATTERNS = [
  'MAKE_MATCH',
  'PATCH_MATCH',
  'BUILD_EXCLUSIVE_KERNEL',
  'BUILD_EXCLUSIVE_ARCH',
  'BUILD_EXCLUSIVE_CONFIG',
] as const;
export type Pattern = (typeof PATTERNS)[number];

/** Directives that Kiln follows (source: dkms(8) of dkms 3.2, and its `read_conf`). */
const HONOURED = [
  'PACKAGE_NAME',
  'PACKAGE_VERSION',
  'BUILT_MODULE_NAME',
  'BUILT_MODULE_LOCATION',
  'DEST_MODULE_NAME',
  'DEST_MODULE_LOCATION',
  'STRIP',
  'CLEAN',
  'MAKE',
  'MAKE_MATCH',
  'PATCH',
  'PATCH_MATCH',
  'PRE_BUILD',
  'POST_BUILD',
  'BUILD_DEPENDS',
  'BUILD_EXCLUSIVE_KERNEL',
  'BUILD_EXCLUSIVE_KERNEL_MIN',
  'BUILD_EXCLUSIVE_KERNEL_MAX',
  'BUILD_EXCLUSIVE_CONFIG',
  'BUILD_EXCLUSIVE_ARCH',
  'NO_WEAK_MODULES',
  'OBSOLETE_BY',
] as const;

/** Directives that change no build and that Kiln does not follow. Each build's log names those that are set, with what Kiln does instead. */
export const PASSED_OVER: Readonly<Record<string, string>> = {
  POST_ADD: 'hosts run it where dkms adds the source; kiln install runs no script',
  PRE_INSTALL: 'hosts run it where dkms installs the module; kiln install runs no script',
  POST_INSTALL: 'hosts run it where dkms installs the module; kiln install runs no script',
  POST_REMOVE: 'hosts run it where dkms removes the module; kiln install runs no script',
  MODPROBE_ON_INSTALL:
    'hosts load modules where they are told to: dkms by this, kiln install by --load',
  REMAKE_INITRD: 'an initramfs is made anew where it holds the module',
  MODULES_CONF: 'Kiln does not change a host’s modprobe.d',
  MODULES_CONF_ALIAS_TYPE: 'Kiln does not change a host’s modprobe.d',
  MODULES_CONF_OBSOLETES: 'Kiln does not change a host’s modprobe.d',
  MODULES_CONF_OBSOLETE_ONLY: 'Kiln does not change a host’s modprobe.d',
  SIGN_FILE: 'modules are signed by the service, with its key',
  MOK_SIGNING_KEY: 'modules are signed by the service, with its key',
  MOK_CERTIFICATE: 'modules are signed by the service, with its key',
};

/** The names of all variables that the evaluation in the sandbox prints. */
export const DKMS_VARIABLES: readonly string[] = [...HONOURED, ...Object.keys(PASSED_OVER)];

const ANSWERS: ReadonlySet<string> = new Set([
  ...DKMS_VARIABLES,
  ...PATTERNS.map((name) => `${name}_HOLDS`),
]);

/**
 * Reads the evaluation's answer: `NAME NUL INDEX NUL VALUE NUL` for each value.
 * It comes out of a sandbox, so anything malformed throws `KilnError('bad-source')`.
 */
export const parseEvaluation = (answer: Buffer): EvaluatedConf => {
  const fields = answer.toString('utf8').split('\0');
  if (fields.pop() !== '' || fields.length % 3 !== 0) {
    throw new KilnError('bad-source', 'the evaluation of dkms.conf gave a malformed answer');
  }
  const conf = new Map<string, Map<number, string>>();
  for (let at = 0; at < fields.length; at += 3) {
    const [name = '', index = '', value = ''] = fields.slice(at, at + 3);
    if (!ANSWERS.has(name) || !/^\d{1,4}$/.test(index)) {
      throw new KilnError('bad-source', 'the evaluation of dkms.conf gave a malformed answer');
    }
    const values = conf.get(name) ?? new Map<number, string>();
    values.set(Number(index), value);
    conf.set(name, values);
  }
  return conf;
};

/** One value, '' where it is not set. */
export const valueAt = (conf: EvaluatedConf, name: string, index = 0): string =>
  conf.get(name)?.get(index) ?? '';

/** An array's values that are not empty, in order of their index. */
export const valuesOf = (conf: EvaluatedConf, name: string): readonly [number, string][] =>
  [...(conf.get(name) ?? [])].filter(([, value]) => value !== '').sort(([a], [b]) => a - b);

/** Whether the pattern at an index holds for the kernel; `ifNone` where there is no pattern. */
export const holds = (
  conf: EvaluatedConf,
  pattern: Pattern,
  index: number,
  ifNone: boolean,
): boolean =>
  valueAt(conf, pattern, index) === ''
    ? ifNone
    : valueAt(conf, `${pattern}_HOLDS`, index) === 'yes';
