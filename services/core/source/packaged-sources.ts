import { KilnError } from '../errors.ts';
import type { ScannedTree } from '../tree/tree.ts';
import { confIn, literal, literals, sourceAt, type InspectedSource } from './source.ts';

/** Where packages lay module sources for DKMS, and DKMS looks for them. */
const HOME = /^usr\/src\/[^/]+(?=\/dkms\.conf$)/;

/** A directory of `/usr/src` with a `dkms.conf`: the source that it is, or why it can be none. */
export type PackagedSource =
  | ({ readonly directory: string } & InspectedSource)
  | { readonly directory: string; readonly problem: KilnError };

/**
 * The sources that a package lays down, in the order of their directories; none for a package that only depends on others, or has none
 * of a module. Each has the name and version under which DKMS has it on a host that installs the package: those that its directory is
 * called after. `others`: sources of the packages that it depends on. With those installed DKMS builds, whether BUILD_DEPENDS names them or
 * not.
 */
export const packagedSources = (
  scanned: ScannedTree,
  others: readonly string[] = [],
): readonly PackagedSource[] =>
  scanned.entries
    .flatMap(({ path }) => HOME.exec(path)?.[0] ?? [])
    .sort()
    .map((home) => {
      const directory = `/${home}`;
      try {
        const conf = confIn(scanned, home);
        const called = calledAfter(home.slice('usr/src/'.length), conf);
        const depends = [
          ...literals(conf, 'BUILD_DEPENDS'),
          ...others.filter((name) => name !== called.name),
        ];
        return { directory, ...sourceAt(scanned, home, { ...called, depends }) };
      } catch (error) {
        if (error instanceof KilnError) return { directory, problem: error };
        throw error;
      }
    });

/**
 * Divides a directory's name into a source's name and version. Both may have dashes in them: where the conf says one of the two in plain
 * words, the other is the rest; else the version begins with the first digit behind a dash.
 */
const calledAfter = (
  directory: string,
  conf: string,
): { readonly name: string; readonly version: string } => {
  const name = literal(conf, 'PACKAGE_NAME');
  if (name !== null && directory.startsWith(`${name}-`))
    return { name, version: directory.slice(name.length + 1) };
  const version = literal(conf, 'PACKAGE_VERSION');
  if (version !== null && directory.endsWith(`-${version}`))
    return { name: directory.slice(0, -version.length - 1), version };
  const [, first, rest] = /^(.+?)-(v?[0-9].*)$/.exec(directory) ?? [];
  if (first !== undefined && rest !== undefined) return { name: first, version: rest };
  throw new KilnError(
    'bad-source',
    `/usr/src/${directory} is not called after a source’s name and version, so DKMS would not find it; have its package mended`,
  );
};
