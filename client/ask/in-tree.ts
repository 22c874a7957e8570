import { loadingOf, readInTree, type InTreeModule } from '../../services/core/packages/in-tree.ts';
import { inModules, type Host } from '../host/host.ts';
import { readHostText } from '../host/host-files.ts';
import type { Service } from '../wire/service.ts';

/** Of `modules.dep`; a distribution's has some 700 kB. */
const LIMIT = 32 * 1024 ** 2;

/**
 * What a build's modules need of the kernel's own, as the host's `modules.dep` has it. Throws `KilnError('conflict')` where the host does not
 * have it.
 */
export const neededInTree = async (
  service: Pick<Service, 'build'>,
  host: Host,
  build: string,
): Promise<readonly InTreeModule[]> => {
  const { modules, kernel, dependencies } = await service.build(build);
  // There is no image of what is built against others: the service says so.
  if (dependencies.length > 0) return [];
  const text = await readHostText(host, inModules(kernel.release, 'modules.dep'), LIMIT);
  return loadingOf(modules, readInTree(text ?? ''), kernel.release).inTree;
};
