import type { KernelArchive } from '../core/kernel/archive.ts';
import { openApt } from './apt.ts';
import { openRpmRepository } from './rpm-repository.ts';
import type { PackageArchive } from './package-archive.ts';

/** Opens an archive in a directory of its own. `now` is in milliseconds. */
export const openArchive = (
  directory: string,
  archive: KernelArchive,
  now: () => number,
): Promise<PackageArchive> =>
  archive.kind === 'apt'
    ? openApt(directory, archive.sources)
    : openRpmRepository(directory, archive, now);
