import { canonicalJson } from '../format/canonical-json.ts';
import { digestOf, shortDigest, type Digest } from '../digest.ts';
import { KilnError } from '../errors.ts';
import { claimedFiles, type HostFileClaims, type HostFiles } from './host-files.ts';
import { type ScannedTree, layTree, mustKeepLinks, type Move, type Tree } from '../tree/tree.ts';

/** A module's source tree. */
export interface Source {
  /** The source's identity: digest of its name, version and tree, and of what was said of it. The same tree under two names builds in two places. */
  readonly digest: Digest;
  readonly tree: Digest;
  readonly name: string;
  readonly version: string;
  /** `dkms`: a `dkms.conf` says what to build; `kbuild`: a plain Kbuild or Makefile does. */
  readonly kind: 'dkms' | 'kbuild';
  /** Whether it is to be built for every new kernel (`AUTOINSTALL`). */
  readonly autoinstall: boolean;
  /** Sources whose modules its own are built against, by name (`BUILD_DEPENDS`). */
  readonly depends: readonly string[];
  /** Packages its build needs besides a toolchain's usual ones, such as `libxtables-dev`. */
  readonly needs: readonly string[];
  /** Whether some of it is Rust, which only the kernel's own rustc can compile. */
  readonly hasRust: boolean;
  /** Files that a host would hold for it, such as `/etc/dkms/zfs.conf`. */
  readonly settings: Settings;
  /** Files that hosts get beside its modules. */
  readonly files: HostFiles;
}

/** What the pusher and the tree itself say of a source, besides its name and kind. */
export type SourceFacts = Pick<
  Source,
  'autoinstall' | 'depends' | 'needs' | 'hasRust' | 'settings' | 'files'
>;

/** Settings files by their absolute path, below `/etc/dkms`, `/etc/default` or `/etc/sysconfig`. */
export type Settings = Readonly<Record<string, string>>;

/** Where the description of a Debian package stands among its files. */
export const CONTROL_FILE = 'DEBIAN/control';

/** Files whose content `inspectSource` reads. */
export const isSourceEvidence = (path: string): boolean =>
  /(^|\/)dkms\.conf$/.test(path) || path === CONTROL_FILE;

/** A source's name and version: they become part of paths. */
export const SOURCE_NAME = /^[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}$/;
export const SOURCE_VERSION = /^[A-Za-z0-9][A-Za-z0-9_.+~-]{0,63}$/;

/** The pusher's claims about a source. What is left out is read from the tree. */
export interface SourceClaims {
  readonly name?: string | undefined;
  readonly version?: string | undefined;
  readonly depends?: readonly string[] | undefined;
  readonly needs?: readonly string[] | undefined;
  readonly settings?: Settings | undefined;
  readonly files?: HostFileClaims | undefined;
}

/** A source that was found in a tarball, and the layout that makes its tree of the tarball. */
export interface InspectedSource {
  readonly source: Source;
  readonly tree: Tree;
  readonly layout: readonly Move[];
}

/**
 * Finds the module's source in a tarball: the shallowest directory with a `dkms.conf`, else with a Kbuild
 * or Makefile. Name and version come from the pusher, else from literal lines of `dkms.conf` (it is bash, so it is
 * evaluated in the sandbox alone, which then holds it against these), else from a directory named NAME-VERSION.
 */
export const inspectSource = (scanned: ScannedTree, given: SourceClaims = {}): InspectedSource => {
  const paths = scanned.entries.map((entry) => entry.path);
  const conf = shallowest(paths, ['dkms.conf']);
  const home = conf ?? shallowest(paths, ['Kbuild', 'Makefile']);
  if (home === null) {
    throw new KilnError(
      'bad-source',
      'the source has neither a dkms.conf nor a Kbuild or Makefile; send the directory that has one',
    );
  }
  if (home.split('/').at(-1) === 'dkms_binaries_only') {
    throw new KilnError(
      'bad-source',
      'the tarball has built modules in place of their source; make it with dkms mktarball --source-only',
    );
  }
  return sourceAt(scanned, home, given);
};

/** The source in a directory of a tarball. Throws `KilnError('bad-source')`. */
export const sourceAt = (
  scanned: ScannedTree,
  home: string,
  given: SourceClaims,
): InspectedSource => {
  const layout = [{ from: home, to: '' }];
  mustKeepLinks(scanned, layout);
  const tree = layTree(scanned.entries, layout);
  const confText = confIn(scanned, home);
  const named = /^(.+?)-v?([0-9][^/]*)$/.exec(home.split('/').at(-1) ?? '');
  const name = given.name ?? literal(confText, 'PACKAGE_NAME') ?? named?.[1] ?? 'module';
  const version =
    given.version ?? literal(confText, 'PACKAGE_VERSION') ?? named?.[2] ?? shortDigest(tree.digest);
  if (!SOURCE_NAME.test(name) || !SOURCE_VERSION.test(version)) {
    throw new KilnError(
      'bad-source',
      `${JSON.stringify(`${name}/${version}`)} is not a usable name and version; use letters, digits and _ . + - (--name, --version)`,
    );
  }
  if (/^linux-(headers|kbuild)-/.test(`${name}-${version}`)) {
    throw new KilnError(
      'bad-source',
      `${name}-${version} is where a kernel’s headers stand in /usr/src; give the source another name (--name)`,
    );
  }
  const kind = tree.entries.some(({ path }) => path === 'dkms.conf') ? 'dkms' : 'kbuild';
  const depends = [...new Set(given.depends ?? literals(confText, 'BUILD_DEPENDS'))].sort();
  const needs = [...new Set(given.needs ?? packagesNeeded(scanned))].sort();
  const settings = checkSettings(given.settings ?? {});
  const files = claimedFiles(given.files ?? {}, tree);
  if (depends.includes(name))
    throw new KilnError(
      'bad-source',
      `${name} depends on itself; take it out of its BUILD_DEPENDS, or of --depends`,
    );
  const digest = sourceDigest({
    name,
    version,
    tree: tree.digest,
    depends,
    needs,
    settings,
    files,
  });
  const autoinstall = /^y/i.test(literal(confText, 'AUTOINSTALL') ?? '');
  const hasRust = tree.entries.some(({ path }) => path.endsWith('.rs'));
  const source = { digest, tree: tree.digest, name, version, kind, autoinstall, hasRust } as const;
  return { source: { ...source, depends, needs, settings, files }, tree, layout };
};

/** A source's digest: of all that tells it from others. */
export const sourceDigest = ({
  name,
  version,
  tree,
  depends,
  needs,
  settings,
  files,
}: Pick<
  Source,
  'name' | 'version' | 'tree' | 'depends' | 'needs' | 'settings' | 'files'
>): Digest =>
  digestOf(
    canonicalJson({
      name,
      version,
      tree,
      depends,
      needs,
      settings: { ...settings },
      // Sources without any keep the digests that they had before there were such files.
      ...(Object.keys(files).length === 0 ? {} : { files: { ...files } }),
    }),
  );

/** The text of a directory's `dkms.conf`; '' where it has none. */
export const confIn = (scanned: ScannedTree, home: string): string =>
  scanned.evidence.get(home === '' ? 'dkms.conf' : `${home}/dkms.conf`)?.toString('utf8') ?? '';

/** The most settings of a source or a request: bytes in all, and files. */
export const SETTINGS_LIMIT = 64 * 1024;
export const SETTINGS_FILES = 64;

/** Where a settings file may lie. */
export const SETTINGS_PATH =
  /^\/etc\/(dkms|default|sysconfig)(\/[A-Za-z0-9][A-Za-z0-9_.+-]{0,127}){1,4}$/;

/** Checks settings files: plain paths below those directories, 64 KiB and 64 files in all. Throws `KilnError('bad-request')`. */
export const checkSettings = (settings: Settings): Settings => {
  const size = Object.values(settings).reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  if (size > SETTINGS_LIMIT)
    throw new KilnError(
      'bad-request',
      `the settings files are over ${SETTINGS_LIMIT} bytes in all; give only those that the source reads`,
    );
  const files = Object.keys(settings).length;
  if (files > SETTINGS_FILES) {
    throw new KilnError(
      'bad-request',
      `there are ${files} settings files; give ${SETTINGS_FILES} at most`,
    );
  }
  for (const path of Object.keys(settings)) {
    if (!SETTINGS_PATH.test(path)) {
      throw new KilnError(
        'bad-request',
        `${JSON.stringify(path)} is not where a settings file can be; give one below /etc/dkms, /etc/default or /etc/sysconfig`,
      );
    }
    const below = Object.keys(settings).find((other) => other.startsWith(`${path}/`));
    if (below !== undefined)
      throw new KilnError(
        'bad-request',
        `${path} cannot be a file and the directory of ${below}; leave out one of these settings`,
      );
  }
  return settings;
};

const shallowest = (paths: readonly string[], names: readonly string[]): string | null => {
  const homes = paths
    .filter((path) => names.includes(path.split('/').at(-1) ?? ''))
    .map((path) => path.split('/').slice(0, -1).join('/'))
    .sort((a, b) => depth(a) - depth(b));
  const [first, ...others] = [...new Set(homes)];
  if (first === undefined) return null;
  const rivals = others.filter((home) => depth(home) === depth(first));
  if (rivals.length > 0) {
    throw new KilnError(
      'bad-source',
      `the tarball has several module sources (${[first, ...rivals].slice(0, 3).join(', ')}); send one at a time`,
    );
  }
  return first;
};

const depth = (path: string): number => (path === '' ? 0 : path.split('/').length);

/** Packages of programs that builds run. Other dependencies of a package (dkms, a firmware, its own tools) are not for its build. */
const BUILD_PROGRAMS =
  /^(autoconf|automake|bc|bison|cmake|cpio|dwarves|file|flex|gawk|gettext|gperf|libtool|libtool-bin|lsb-release|m4|meson|nasm|ninja-build|perl|pkg-config|pkgconf|python3(-[a-z0-9.+-]+)?|rsync|ruby|swig|tcl|xxd|yacc)$/;

/**
 * What a Debian package depends on that its build may include or run: `-dev` packages, and programs that builds are known to run.
 * libc6-dev is in every toolchain. Of alternatives it is the first.
 */
const packagesNeeded = (scanned: ScannedTree): readonly string[] => {
  const control = scanned.evidence.get(CONTROL_FILE)?.toString('utf8') ?? '';
  const depends = /^Depends: (.*)$/m.exec(control)?.[1] ?? '';
  return depends
    .split(',')
    .map((each) => /^\s*([a-z0-9][a-z0-9.+-]*)/.exec(each)?.[1] ?? '')
    .filter((name) =>
      name.endsWith('-dev') ? !/^(libc6?|dpkg)-dev$/.test(name) : BUILD_PROGRAMS.test(name),
    );
};

/** The values of an array that needs no evaluation: `NAME[0]=word` for each element, or `NAME=("word" word)`. */
export const literals = (conf: string, variable: string): readonly string[] => {
  const setting = new RegExp(`^[ \\t]*${variable}(?:\\[\\d+\\])?\\+?=(\\([^()]*\\)|.*)`, 'gm');
  return [...conf.matchAll(setting)].flatMap(([, text = '']) => {
    const value = text.replaceAll(/(^|[ \t])#.*$/gm, '').trim();
    const words = value.startsWith('(') ? value.slice(1, -1).trim().split(/\s+/) : [value];
    return words.flatMap((word) => /^(["']?)([A-Za-z0-9_.+-]+)\1$/.exec(word)?.[2] ?? []);
  });
};

/** A value that needs no evaluation: `NAME=word` or `NAME="word"` on a line of its own. */
export const literal = (conf: string, variable: string): string | null =>
  new RegExp(`^[ \\t]*${variable}=(["']?)([A-Za-z0-9_.+~-]+)\\1[ \\t\\r]*(?:#.*)?$`, 'm').exec(
    conf,
  )?.[2] ?? null;
