import { KilnError } from '../core/errors.ts';
import { buildIdOf } from '../core/build/fingerprint.ts';
import type { Dependency } from '../core/jobs/jobs.ts';
import type { Kernel } from '../core/kernel/kernel.ts';
import { sourceDirectory } from '../core/build/recipe.ts';
import type { Mount, TreeCache } from './tree-cache.ts';

/** The failure where a dependency's bytes are not stored any more. The message says what to do; another machine would fail as well. */
export class DependencyLost extends Error {}

/**
 * The mounts that show a build one that it is built against: its source, and the files that DKMS would keep of it. Throws `DependencyLost`
 * if these are neither unpacked here nor stored.
 */
export const dependencyMounts = async (
  dependency: Dependency,
  kernel: Kernel,
  trees: Pick<TreeCache, 'source' | 'dependency'>,
): Promise<readonly Mount[]> => {
  const { source, fingerprint } = dependency;
  const name = `${source.name}/${source.version}`;
  const from = await trees
    .source(source.tree, source)
    .catch(
      ifNotFound(
        `it is built against ${name}, whose source is not stored any more; push it again the way it came (kiln source push)`,
      ),
    );
  const built = await trees
    .dependency(dependency, kernel)
    .catch(
      ifNotFound(
        `it is built against ${name}, whose modules are not stored any more; make them again first (kiln rebuild ${buildIdOf(fingerprint)})`,
      ),
    );
  return [{ from, at: sourceDirectory(source) }, built];
};

const ifNotFound =
  (message: string) =>
  (error: unknown): never => {
    if (error instanceof KilnError && error.code === 'not-found')
      throw new DependencyLost(message, { cause: error });
    throw error;
  };
