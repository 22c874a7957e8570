import { aptIndex } from './apt-index.ts';
import type { RepositoryContent } from './repository.ts';
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
      return rpmIndex(content);
  }
};
