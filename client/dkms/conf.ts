import { realpath } from 'node:fs/promises';
import {
  valueAt,
  valuesOf,
  holds,
  type EvaluatedConf,
} from '../../services/core/source/dkms-evaluation.ts';
import { packageExclusion } from '../../services/core/source/dkms-exclusion.ts';
import type { DkmsSession } from './session.ts';
import { DkmsEnd } from './end.ts';
import { CONF_VARIABLES, evaluateConfs } from './evaluate.ts';
import { withHeaders } from './headers.ts';

/** A module of a dkms.conf, as it is installed. */
export interface ConfModule {
  readonly builtName: string;
  /** '' or ending in `/`. */
  readonly builtLocation: string;
  readonly name: string;
  /** Where the source wants it below the kernel's directory, such as `/kernel/extra`; most distributions have a place of their own. */
  readonly location: string;
}

/** A dkms.conf as dkms reads it on a host, for one kernel. */
export interface HostConf {
  readonly name: string;
  readonly version: string;
  readonly isAutoinstalled: boolean;
  readonly dependencies: readonly string[];
  /** `BUILD_DEPENDS_REBUILD`: it is built anew when a dependency has another version. */
  readonly followsDependencies: boolean;
  readonly modules: readonly ConfModule[];
  readonly patches: readonly string[];
  readonly make: string | null;
  readonly scripts: Readonly<
    Record<
      'post_add' | 'pre_build' | 'post_build' | 'pre_install' | 'post_install' | 'post_remove',
      string
    >
  >;
  readonly obsoleteBy: string;
  readonly isExcluded: boolean;
  readonly mayLink: boolean;
}

/** What is wrong with a conf, in dkms's words: what makes it unusable, and what only keeps it from being added, built or installed. */
interface Judged {
  readonly conf: HostConf;
  readonly errors: readonly string[];
  readonly strict: readonly string[];
  readonly deprecated: readonly string[];
}

/** A conf's place and what it is read for. */
export interface ConfPlace {
  readonly module: string;
  readonly version: string;
  readonly release: string;
  readonly arch: string;
  readonly file: string;
}

/** Reads confs, and says of each reading what dkms says: deprecated directives once for a source and kernel. */
export interface ConfReader {
  /** Throws `DkmsEnd(4)` where there is none, `DkmsEnd(8)` for a bad one. */
  read(place: ConfPlace, how?: 'strict' | 'lenient'): Promise<HostConf>;
}

export const createConfReader = (session: DkmsSession): ConfReader => {
  let last: { readonly key: string; readonly judged: Judged } | null = null;
  return {
    async read(place, how = 'lenient') {
      const real = await realpath(place.file).catch(() => null);
      if (real === null)
        throw new DkmsEnd(4, [
          'Could not locate dkms.conf file.',
          `File: ${place.file} does not exist.`,
        ]);
      const key = [place.module, place.version, place.release, place.arch, real].join(' ');
      const isNew = last?.key !== key;
      const judged = last?.key === key ? last.judged : await judge(session, place);
      if (isNew && how === 'strict')
        for (const name of judged.deprecated)
          session.complain(`Deprecated feature: ${name} (${place.file})`);
      for (const line of judged.errors) session.complain(line);
      if (judged.errors.length === 0) last = { key, judged };
      if (how === 'strict' && judged.errors.length === 0)
        for (const line of judged.strict) session.complain(line);
      const isBad =
        judged.errors.length > 0 ||
        (how === 'strict' && judged.strict.some((line) => line.includes('Error!')));
      if (isBad)
        throw new DkmsEnd(8, [
          'Bad conf file.',
          `File: ${place.file} does not represent a valid dkms.conf file.`,
        ]);
      return judged.conf;
    },
  };
};

const judge = async (session: DkmsSession, place: ConfPlace): Promise<Judged> => {
  const { module, version, release, arch, file } = place;
  const own = (suffix: string): string => `/etc/dkms/${module}${suffix}.conf`;
  const files = [
    file,
    ...[
      '',
      `-${version}`,
      `-${version}-${release}`,
      `-${version}-${release}-${arch}`,
      `--${release}`,
      `--${release}-${arch}`,
    ].map(own),
  ];
  const values = await withHeaders({ ...session.variables(place), arch }, (variables) =>
    evaluateConfs(files, CONF_VARIABLES, variables, (text) => session.complain(text)),
  );
  for (const directive of session.call.directives)
    setDirective(values as Map<string, Map<number, string>>, directive);
  const errors: string[] = [];
  const complain = (line: string): void => void errors.push(line);
  if (valueAt(values, 'PACKAGE_NAME') === '')
    complain("dkms.conf: Error! No 'PACKAGE_NAME' directive specified.");
  if (valueAt(values, 'PACKAGE_VERSION') === '')
    complain("dkms.conf: Error! No 'PACKAGE_VERSION' directive specified.");
  const modules = readModules(values, complain);
  const isYes = (name: string): boolean => {
    const value = valueAt(values, name);
    if (value === '' || /^no$/i.test(value)) return false;
    if (!/^yes$/i.test(value)) complain(`dkms.conf: Error! Unsupported ${name} value '${value}'`);
    return true;
  };
  const conf: HostConf = {
    name: valueAt(values, 'PACKAGE_NAME'),
    version: valueAt(values, 'PACKAGE_VERSION'),
    isAutoinstalled: isYes('AUTOINSTALL'),
    followsDependencies: isYes('BUILD_DEPENDS_REBUILD'),
    mayLink: !isYes('NO_WEAK_MODULES'),
    dependencies: valuesOf(values, 'BUILD_DEPENDS').flatMap(([, names]) => names.split(' ')),
    modules,
    patches: valuesOf(values, 'PATCH').flatMap(([index, patch]) =>
      holds(values, 'PATCH_MATCH', index, true) ? [patch] : [],
    ),
    make: valueAt(values, 'MAKE') || null,
    scripts: {
      post_add: valueAt(values, 'POST_ADD'),
      pre_build: valueAt(values, 'PRE_BUILD'),
      post_build: valueAt(values, 'POST_BUILD'),
      pre_install: valueAt(values, 'PRE_INSTALL'),
      post_install: valueAt(values, 'POST_INSTALL'),
      post_remove: valueAt(values, 'POST_REMOVE'),
    },
    obsoleteBy: valueAt(values, 'OBSOLETE_BY'),
    isExcluded: packageExclusion(values, { release, arch }) !== null,
  };
  return { conf, errors, strict: strictly(conf), deprecated: deprecatedIn(values) };
};

const setDirective = (values: Map<string, Map<number, string>>, directive: string): void => {
  const [, name = '', value = ''] = /^([A-Z_]+)=(.*)$/s.exec(directive) ?? [];
  if (name !== '') values.set(name, new Map([[0, value]]));
};

/** Where a module may go to, by its source's word. */
const LOCATION = /^\/(kernel|updates|extra)/;
const EXTENSION = /\.(o|ko)$/;

const readModules = (
  values: EvaluatedConf,
  complain: (line: string) => void,
): readonly ConfModule[] => {
  const names = [
    'BUILT_MODULE_NAME',
    'BUILT_MODULE_LOCATION',
    'DEST_MODULE_NAME',
    'DEST_MODULE_LOCATION',
  ];
  const count = Math.max(-1, ...names.flatMap((name) => [...(values.get(name)?.keys() ?? [])])) + 1;
  return Array.from({ length: count }, (_, index): ConfModule => {
    const at = (name: string): string => valueAt(values, name, index);
    const builtName =
      at('BUILT_MODULE_NAME') || (count === 1 ? valueAt(values, 'PACKAGE_NAME') : '');
    const name = at('DEST_MODULE_NAME') || builtName;
    if (builtName === '')
      complain(
        `dkms.conf: Error! No 'BUILT_MODULE_NAME' directive specified for record #${index}.`,
      );
    if (EXTENSION.test(builtName))
      complain(
        `dkms.conf: Error! 'BUILT_MODULE_NAME' directive ends in '.o' or '.ko' in record #${index}.`,
      );
    if (EXTENSION.test(name))
      complain(
        `dkms.conf: Error! 'DEST_MODULE_NAME' directive ends in '.o' or '.ko' in record #${index}.`,
      );
    const location = at('DEST_MODULE_LOCATION');
    if (location === '')
      complain(
        `dkms.conf: Error! No 'DEST_MODULE_LOCATION' directive specified for record #${index}.`,
      );
    else if (!LOCATION.test(location)) {
      complain("dkms.conf: Error! Directive 'DEST_MODULE_LOCATION' does not begin with");
      complain(`'/kernel', '/updates', or '/extra' in record #${index}.`);
    }
    const built = at('BUILT_MODULE_LOCATION');
    return {
      builtName,
      builtLocation: built === '' || built.endsWith('/') ? built : `${built}/`,
      name,
      location,
    };
  });
};

/** What `read_conf_strict` says. */
const strictly = ({ modules }: HostConf): readonly string[] => {
  const twice = (directive: string, names: readonly string[]): readonly string[] =>
    names.flatMap((name, index) =>
      names.indexOf(name) < index
        ? [`dkms.conf: Error! Duplicate module '${name}' in '${directive}[${index}]'.`]
        : [],
    );
  return [
    ...(modules.length === 0 ? ['dkms.conf: Warning! Zero modules specified.'] : []),
    ...twice(
      'BUILT_MODULE_NAME',
      modules.map(({ builtLocation, builtName }) => builtLocation + builtName),
    ),
    ...twice(
      'DEST_MODULE_NAME',
      modules.map(({ name }) => name),
    ),
  ];
};

const deprecatedIn = (values: EvaluatedConf): readonly string[] => {
  const clean = valueAt(values, 'CLEAN');
  const isClean = clean === '' || /^(\/usr)?(\/bin\/)?true$/.test(clean);
  const others = [
    'REMAKE_INITRD',
    'MODULES_CONF',
    'MODULES_CONF_OBSOLETES',
    'MODULES_CONF_ALIAS_TYPE',
    'MODULES_CONF_OBSOLETE_ONLY',
  ];
  return [
    ...(isClean ? [] : ['CLEAN']),
    ...others.filter((name) => (values.get(name)?.size ?? 0) > 0),
  ];
};
