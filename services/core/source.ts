import { canonicalJson } from './canonical-json.ts';
import { digestOf, shortDigest, type Digest } from './digest.ts';
import { KilnError } from './errors.ts';
import type { ScannedArchive } from './kernel.ts';
import { layTree, type Move, type Tree } from './tree.ts';

/** A module's source tree. */
export interface Source {
  /** The source's identity: digest of its name, version and tree. The same tree under two names builds in two places. */
  readonly digest: Digest;
  readonly tree: Digest;
  readonly name: string;
  readonly version: string;
  /** How it says what to build: with a `dkms.conf`, or with a plain Kbuild or Makefile. */
  readonly kind: 'dkms' | 'kbuild';
}

/** Files whose content `inspectSource` reads. */
export const isSourceEvidence = (path: string): boolean => /(^|\/)dkms\.conf$/.test(path);

/** What a source may be called: it becomes part of paths. */
export const SOURCE_NAME = /^[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}$/;
export const SOURCE_VERSION = /^[A-Za-z0-9][A-Za-z0-9_.+~-]{0,63}$/;

/** Name and version, where the pusher gives them rather than the tree. */
export interface SourceName {
  readonly name?: string | undefined;
  readonly version?: string | undefined;
}

/**
 * Finds the module's source in an archive: the shallowest directory with a `dkms.conf`, else with a Kbuild
 * or Makefile. Name and version come from the pusher, else from literal lines of `dkms.conf` (it is bash, so it is
 * evaluated in the sandbox alone, which then holds it against these), else from a directory named NAME-VERSION.
 */
export const inspectSource = (
  archive: ScannedArchive,
  given: SourceName = {},
): { source: Source; tree: Tree; layout: readonly Move[] } => {
  const paths = archive.entries.map((entry) => entry.path);
  const conf = shallowest(paths, ['dkms.conf']);
  const home = conf ?? shallowest(paths, ['Kbuild', 'Makefile']);
  if (home === null) {
    throw new KilnError(
      'bad-source',
      'the source has neither a dkms.conf nor a Kbuild or Makefile; send the directory that has one',
    );
  }
  const layout = [{ from: home, to: '' }];
  const tree = layTree(archive.entries, layout);
  const confText =
    archive.evidence.get(home === '' ? 'dkms.conf' : `${home}/dkms.conf`)?.toString('utf8') ?? '';
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
  const kind = conf === null ? 'kbuild' : 'dkms';
  const digest = digestOf(canonicalJson({ name, version, tree: tree.digest }));
  return { source: { digest, tree: tree.digest, name, version, kind }, tree, layout };
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
      `the archive has several module sources (${[first, ...rivals].slice(0, 3).join(', ')}); send one at a time`,
    );
  }
  return first;
};

const depth = (path: string): number => (path === '' ? 0 : path.split('/').length);

/** A value that needs no evaluation: `NAME=word` or `NAME="word"` on a line of its own. */
const literal = (conf: string, variable: string): string | null =>
  new RegExp(`^[ \\t]*${variable}=(["']?)([A-Za-z0-9_.+~-]+)\\1[ \\t]*(?:#.*)?$`, 'm').exec(
    conf,
  )?.[2] ?? null;
