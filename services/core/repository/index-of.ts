import { aptIndex } from './apt-index.ts';
import { planPackage } from '../packages/plan-package.ts';
import {
  poolPath,
  type IndexedPackage,
  type IndexFile,
  type RepositoryContent,
} from './repository.ts';
import { rpmIndex } from './rpm-index.ts';

/** The texts of a repository's index, by path: those that package managers are given, and the one that covers all others, and is signed. */
export interface RepositoryIndex {
  readonly lists: ReadonlyMap<string, string>;
  readonly top: {
    readonly path: string;
    readonly text: string;
    /** Where its signature is. */
    readonly signature: string;
    /** Where it is with its signature around it, if package managers look for that. */
    readonly inline: string | null;
  };
}

/** Works out the index of a repository. */
export const indexOf = (content: RepositoryContent): RepositoryIndex => {
  switch (content.format) {
    case 'deb':
      return aptIndex(content);
    case 'rpm':
    case 'kmp':
      return rpmIndex(content);
  }
};

/**
 * The packages that are files of the index, by path: those of a format whose packages are signed themselves. All others are in the pool that
 * repositories of their format share.
 */
export const ownPool = ({
  format,
  packages,
}: RepositoryContent): ReadonlyMap<string, IndexedPackage> =>
  new Map(
    format === 'deb'
      ? []
      : packages.map((each) => {
          const source = 'source' in each.subject ? each.subject.source.name : '';
          return [poolPath(source, planPackage(format, each.subject).file), each] as const;
        }),
  );

/** The content with the packages that are files of the index in the place of those that they were made of. */
export const withOwnPool = (
  content: RepositoryContent,
  files: ReadonlyMap<string, Pick<IndexFile, 'digest' | 'size'>>,
): RepositoryContent => {
  const own = new Map([...ownPool(content)].map(([path, each]) => [each, path]));
  return {
    ...content,
    packages: content.packages.map((each) => {
      const file = files.get(own.get(each) ?? '');
      return file === undefined ? each : { ...each, digest: file.digest, size: file.size };
    }),
  };
};
