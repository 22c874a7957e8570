import { lstatSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { DkmsEnd, EXIT } from './end.ts';
import { DKMS_NAME } from './names.ts';

/** The verbs of dkms. */
export const VERBS = [
  'add',
  'remove',
  'build',
  'unbuild',
  'install',
  'uninstall',
  'match',
  'autoinstall',
  'status',
  'mktarball',
  'ldtarball',
  'mkdeb',
  'mkbmdeb',
  'mkrpm',
  'mkkmp',
  'mkdsc',
  'generate_mok',
  'kernel_preinst',
  'kernel_postinst',
  'kernel_prerm',
] as const;
export type Verb = (typeof VERBS)[number];

/** A command line of dkms, read as dkms reads it. Nothing is looked up yet. */
export interface DkmsCall {
  readonly verb: Verb | null;
  readonly module: string;
  readonly version: string;
  /** Kernels in the order given, each with its architecture where `-k RELEASE/ARCH` names it. */
  readonly kernels: readonly string[];
  readonly arches: readonly string[];
  readonly all: boolean;
  readonly force: boolean;
  readonly forceVersion: boolean;
  readonly isQuiet: boolean;
  readonly isVerbose: boolean;
  readonly noDepmod: boolean;
  readonly loads: boolean;
  readonly binariesOnly: boolean;
  readonly sourceOnly: boolean;
  readonly isSafeUpgrade: boolean;
  /** `-c`: a dkms.conf to read instead of the source's. */
  readonly conf: string | null;
  /** `--config`: the kernel's options. */
  readonly kernelConfig: string | null;
  readonly kernelSource: string | null;
  readonly template: string | null;
  readonly archive: string | null;
  /** A directory with a dkms.conf that stands where the module's name is expected. */
  readonly sourceTree: string | null;
  readonly directives: readonly string[];
  readonly dkmsTree: string | null;
  readonly sourceHome: string | null;
  readonly installTree: string | null;
  readonly wants: 'work' | 'help' | 'version';
}

/** The options that take a value, by how dkms recognizes them: `--kernelver*` means any word that begins so. */
const VALUED: readonly (readonly [string, RegExp])[] = [
  ['module', /^(--module.*|-m)$/],
  ['version', /^-v$/],
  ['kernel', /^(--kernelver.*|-k)$/],
  ['template', /^--templatekernel.*$/],
  ['conf', /^-c$/],
  ['dkmsTree', /^--dkmstree.*$/],
  ['sourceHome', /^--sourcetree.*$/],
  ['installTree', /^--installtree.*$/],
  ['kernelConfig', /^--config.*$/],
  ['archive', /^--archive.*$/],
  ['arch', /^(--arch.*|-a)$/],
  ['kernelSource', /^--kernelsourcedir.*$/],
  ['directive', /^--directive.*$/],
  ['jobs', /^-j$/],
];
const FLAGS: Readonly<Record<string, string>> = {
  '--quiet': 'isQuiet',
  '-q': 'isQuiet',
  '--verbose': 'isVerbose',
  '--force': 'force',
  '--force-version-override': 'forceVersion',
  '--all': 'all',
  '--no-depmod': 'noDepmod',
  '--modprobe-on-install': 'loads',
  '--binaries-only': 'binariesOnly',
  '--source-only': 'sourceOnly',
  '--rpm_safe_upgrade': 'isSafeUpgrade',
  '--symlink-modules': 'linksModules',
  '--debug': 'isDebug',
};
/** Options that dkms has given up, takes and names. */
const DEPRECATED = ['--no-initrd', '--no-clean-kernel', '--no-prepare-kernel'];

/**
 * Reads a command line. `warn` gets what dkms warns of meanwhile. Throws `DkmsEnd` with dkms's own status for what it refuses.
 * The places that words name (a dkms.conf, a directory with one, a tarball) are looked at, as dkms does.
 */
export const readCall = (
  args: readonly string[],
  cwd: string,
  warn: (line: string) => void,
): DkmsCall => {
  const values = new Map<string, string[]>();
  const flags = new Set<string>();
  const take = (name: string, value: string): void => {
    values.set(name, [...(values.get(name) ?? []), value]);
  };
  const last = (name: string): string | null => values.get(name)?.at(-1) ?? null;
  let verb: Verb | null = null;
  let wants: DkmsCall['wants'] = 'work';
  let sourceTree: string | null = null;
  let [module, version] = ['', ''];
  const nameModule = (word: string): void => {
    const [name = '', ...rest] = word.split('/');
    module = name;
    // An absolute path without a dkms.conf names nothing.
    if (name !== '' && rest.length > 0) version = rest.join('/');
  };
  const words = [...args];
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    const given = word;
    const [option, joined] = given.startsWith('-') ? splitOption(given) : [given];
    const valued = VALUED.find(([, pattern]) => pattern.test(option));
    if (given.startsWith('-') && valued !== undefined) {
      const value = joined ?? words.shift() ?? '';
      const [name] = valued;
      if (name === 'module') nameModule(value);
      else if (name === 'version') version = value;
      else if (name === 'kernel') {
        const [release = '', ...arch] = value.split('/');
        take('kernel', release);
        if (arch.length > 0) take('arch', arch.join('/'));
      } else take(name, value);
    } else if (FLAGS[given] !== undefined) flags.add(FLAGS[given]);
    else if (DEPRECATED.includes(given)) warn(`Deprecated feature: ${given}`);
    else if (given === '--help' || given === '-h') wants = 'help';
    else if (given === '--version' || given === '-V') wants = 'version';
    else if (given.startsWith('-')) throw new DkmsEnd(2, [`Unknown option: ${given}`]);
    else if (isVerb(given)) {
      if (verb !== null) throw new DkmsEnd(4, ['Cannot specify more than one action.']);
      verb = given;
    } else if (given.endsWith('dkms.conf') && isFile(join(cwd, given)))
      sourceTree = given.slice(0, -'dkms.conf'.length) || './';
    else if (isFile(placeOf(cwd, join(given, 'dkms.conf')))) sourceTree = given;
    else if (isFile(placeOf(cwd, given))) take('archive', given);
    else if (module === '') nameModule(given);
    else warn(`Warning: I do not know how to handle ${given}.`);
  }
  const call: DkmsCall = {
    verb,
    module,
    version,
    kernels: values.get('kernel') ?? [],
    arches: values.get('arch') ?? [],
    all: flags.has('all'),
    force: flags.has('force'),
    forceVersion: flags.has('forceVersion'),
    isQuiet: flags.has('isQuiet'),
    isVerbose: flags.has('isVerbose'),
    noDepmod: flags.has('noDepmod'),
    loads: flags.has('loads'),
    binariesOnly: flags.has('binariesOnly'),
    sourceOnly: flags.has('sourceOnly'),
    isSafeUpgrade: flags.has('isSafeUpgrade'),
    conf: last('conf'),
    kernelConfig: last('kernelConfig'),
    kernelSource: last('kernelSource'),
    template: last('template'),
    archive: last('archive'),
    sourceTree: sourceTree === null ? null : placeOf(cwd, sourceTree),
    directives: values.get('directive') ?? [],
    dkmsTree: last('dkmsTree'),
    sourceHome: last('sourceHome'),
    installTree: last('installTree'),
    wants,
  };
  mustAgree(call);
  mustBeNames(call);
  return call;
};

const mustBeNames = ({ module, version, kernels, arches, template }: DkmsCall): void => {
  const words = [module, version, ...kernels, ...arches, template ?? ''];
  const strange = words.find((word) => word !== '' && !DKMS_NAME.test(word));
  if (strange !== undefined)
    throw new DkmsEnd(EXIT.usage, [
      `${JSON.stringify(strange)} is no name: letters, digits, _ . + ~ and - are, after a letter or digit.`,
    ]);
};

const isVerb = (word: string): word is Verb => (VERBS as readonly string[]).includes(word);

const splitOption = (word: string): readonly [string, string?] => {
  const [, option = word, value] = /^(--?[^=]*)=(.*)$/s.exec(word) ?? [];
  return value === undefined ? [option] : [option, value];
};

/** Throws for options that exclude each other. */
const mustAgree = ({ binariesOnly, sourceOnly, kernels, arches, all }: DkmsCall): void => {
  if (binariesOnly && sourceOnly)
    throw new DkmsEnd(8, [
      'You have specified both --binaries-only and --source-only.',
      'You cannot do this.',
    ]);
  if (kernels.length !== arches.length && arches.length > 1)
    throw new DkmsEnd(1, [
      'If more than one arch is specified on the command line, then there',
      'must be an equal number of kernel versions also specified (1:1 relationship).',
    ]);
  if (kernels.length > 0 && all)
    throw new DkmsEnd(2, [
      'You cannot specify a kernel version and also specify',
      '--all on the command line.',
    ]);
  if (arches.length > 0 && all)
    throw new DkmsEnd(3, [
      'You cannot specify an arch and also specify',
      '--all on the command line.',
    ]);
};

const placeOf = (cwd: string, path: string): string =>
  path.startsWith('/') ? path : join(cwd, path);

const isFile = (path: string): boolean => {
  try {
    return (lstatSync(path).isSymbolicLink() ? statSync(path) : lstatSync(path)).isFile();
  } catch {
    return false;
  }
};
