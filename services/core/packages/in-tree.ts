import { z } from 'zod';
import { KilnError } from '../errors.ts';
import { moduleNameOf } from '../module/module-name.ts';
import { list, moduleName, MODULES } from '../schemas/domain.ts';

/** The kernel's own modules that others depend on, as depmod's `modules.dep` has them. */

/** The path of one of the kernel's own modules, below `/lib/modules/RELEASE`. */
const path = z
  .string()
  .max(512)
  .regex(/^kernel(\/[A-Za-z0-9_-][A-Za-z0-9._+,-]{0,127})+\.ko(\.(gz|xz|zst))?$/);

/** A module's name as the kernel has it. */
const kernelName = z.string().regex(/^[A-Za-z0-9_]{1,128}$/);

/** One of the kernel's own modules, and all that it needs loaded before, over all layers, in depmod's order: what is to be loaded first is last. */
const InTreeModule = z.strictObject({ path, needs: list(path, 128) });
export type InTreeModule = z.infer<typeof InTreeModule>;
export const InTreeModules = list(InTreeModule, 512);

/** What modules need loaded before them: the names that each says it depends on, and those of the kernel's own among them, with all that these need. */
export const Loading = z.strictObject({
  depends: z
    .record(moduleName, list(kernelName, 128))
    .refine((depends) => Object.keys(depends).length <= MODULES),
  inTree: InTreeModules,
});
export type Loading = z.infer<typeof Loading>;

/** What some modules need loaded before them, of what they say of themselves and of the kernel's own modules. Throws `KilnError('conflict')` where that is not known. */
export const loadingOf = (
  modules: readonly {
    readonly name: string;
    readonly modinfo: readonly (readonly [key: string, value: string])[];
  }[],
  known: readonly InTreeModule[],
  release: string,
): Loading => {
  const depends = Object.fromEntries(
    modules.map(({ name, modinfo }) => [
      name,
      modinfo
        .flatMap(([key, value]) => (key === 'depends' ? value.split(',') : []))
        .filter((each) => each !== '')
        .map(moduleNameOf),
    ]),
  );
  const own = new Set(modules.map(({ name }) => moduleNameOf(name)));
  const others = Object.values(depends)
    .flat()
    .filter((name) => !own.has(name));
  const inTree = inTreeNeeded(others, known, release);
  const loading = Loading.safeParse({ depends, inTree });
  if (loading.success) return loading.data;
  throw new KilnError(
    'conflict',
    'the modules depend on more than an image can say, or on what has no name of a module; make a deb or an rpm of them',
  );
};

/**
 * The kernel's own modules among some that others need, over all layers: each once, in the order of their paths. Throws
 * `KilnError('conflict')` where one is not known.
 */
export const inTreeNeeded = (
  names: readonly string[],
  known: readonly InTreeModule[],
  release: string,
): readonly InTreeModule[] => {
  const byName = new Map(known.map((each) => [moduleNameOf(each.path), each]));
  const needed = new Set<InTreeModule>();
  const take = (name: string): void => {
    const found = byName.get(name);
    if (found === undefined)
      throw new KilnError(
        'conflict',
        `${name}, which the modules depend on, is not one of kernel ${release}’s own that are known here; ask with --root DIR, where that kernel and its modules are installed (modules of other sources cannot be in an image)`,
      );
    if (needed.has(found)) return;
    needed.add(found);
    found.needs.map(moduleNameOf).forEach(take);
  };
  names.forEach(take);
  return [...needed].toSorted((one, other) => (one.path < other.path ? -1 : 1));
};

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
