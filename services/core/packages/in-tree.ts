import { z } from 'zod';
import { KilnError } from '../errors.ts';
import { moduleNameOf } from '../module/module-name.ts';
import { list, moduleName, MODULES } from '../schemas/domain.ts';

/** The kernel's own modules that others need, as depmod's `modules.dep` has them. */

/** The path of one of the kernel's own modules, below `/lib/modules/RELEASE`. */
const path = z
  .string()
  .max(512)
  .regex(/^kernel(\/[A-Za-z0-9_-][A-Za-z0-9._+,-]{0,127})+\.ko(\.(gz|xz|zst))?$/);

/** A module's name as the kernel has it. */
const kernelName = z.string().regex(/^[A-Za-z0-9_]{1,128}$/);

/**
 * One of the kernel's own modules, and all that it needs loaded before, over all layers, in depmod's order: what is to be loaded first is
 * last.
 */
const InTreeModule = z.strictObject({ path, needs: list(path, 128) });
export type InTreeModule = z.infer<typeof InTreeModule>;
export const InTreeModules = list(InTreeModule, 512);

/** A soft dependency on modules by their names; those on aliases (`crypto-crc32c`) are not in an image. */
const SOFTDEP = /^[A-Za-z0-9_: -]{1,500}$/;

/** What modules need loaded before them, so that an index can say it. */
export const Loading = z.strictObject({
  /** Of each module: the names that it says it depends on, and what it says that it wants beside it where that is there. */
  modules: list(
    z.strictObject({
      name: moduleName,
      depends: list(kernelName, 128),
      softdeps: list(z.string().regex(SOFTDEP), 32),
    }),
    MODULES,
  ),
  /** Those of the kernel's own that they need, with all that these need. */
  inTree: InTreeModules,
});
export type Loading = z.infer<typeof Loading>;

/** A module, and what it says of itself. */
interface Described {
  readonly name: string;
  readonly modinfo: readonly (readonly [key: string, value: string])[];
}

/**
 * What some modules need loaded before them, by what they say of themselves and what is known of the kernel's own modules. Throws
 * `KilnError('conflict')` where that does not say all.
 */
export const loadingOf = (
  described: readonly Described[],
  known: readonly InTreeModule[],
  release: string,
): Loading => {
  const modules = described.map(({ name, modinfo }) => ({
    name,
    depends: valuesOf(modinfo, 'depends')
      .flatMap((value) => value.split(','))
      .filter((each) => each !== '')
      .map(moduleNameOf),
    softdeps: valuesOf(modinfo, 'softdep').filter((softdep) => SOFTDEP.test(softdep)),
  }));
  const inTree = inTreeNeeded(modules, known, release);
  const loading = Loading.safeParse({ modules, inTree });
  if (loading.success) return loading.data;
  throw new KilnError(
    'conflict',
    'the modules depend on more than an image can say, or on what has no name of a module; make a deb or an rpm of them',
  );
};

const valuesOf = (modinfo: Described['modinfo'], key: string): readonly string[] =>
  modinfo.flatMap(([field, value]) => (field === key ? [value] : []));

/**
 * The kernel's own modules among some that others need, over all layers, but for those that the others replace: each once, in the order of
 * their paths. Throws `KilnError('conflict')` where one is not known that must be there.
 */
const inTreeNeeded = (
  modules: Loading['modules'],
  known: readonly InTreeModule[],
  release: string,
): readonly InTreeModule[] => {
  const own = new Set(modules.map(({ name }) => moduleNameOf(name)));
  const byName = new Map(known.map((each) => [moduleNameOf(each.path), each]));
  const needed = new Set<InTreeModule>();
  const take = (name: string): void => {
    if (own.has(name)) return;
    const found = byName.get(name);
    if (found === undefined)
      throw new KilnError(
        'conflict',
        `${name}, which the modules depend on, is not one of kernel ${release}’s own that modules.dep tells of; ask with --root DIR, where that kernel and all of its modules are installed, and nothing in their place`,
      );
    if (needed.has(found)) return;
    needed.add(found);
    found.needs.map(moduleNameOf).forEach(take);
  };
  modules.flatMap(({ depends }) => depends).forEach(take);
  const wished = modules.flatMap(({ softdeps }) => softdeps).flatMap(softNames);
  wished.filter((name) => byName.has(name)).forEach(take);
  return [...needed].toSorted((one, other) => (one.path < other.path ? -1 : 1));
};

/** The names in a soft dependency, `pre: a b post: c`. */
const softNames = (softdep: string): readonly string[] =>
  softdep
    .split(' ')
    .filter((word) => word !== '' && !word.endsWith(':'))
    .map(moduleNameOf);

/** The kernel's own modules that a text of `modules.dep` tells of. Lines that are none of them are left out. */
export const readInTree = (text: string): readonly InTreeModule[] =>
  text.split('\n').flatMap((line) => {
    const [, file = '', needs = ''] = /^([^:]+):(.*)$/.exec(line) ?? [];
    const parsed = InTreeModule.safeParse({
      path: file,
      needs: needs.split(' ').filter((each) => each !== ''),
    });
    return parsed.success ? [parsed.data] : [];
  });
