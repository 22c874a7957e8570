import { KilnError } from '../../services/core/errors.ts';
import { TRUSTS, trustReaches } from '../../services/core/policy/policy.ts';
import type { SourceView } from '../../services/core/protocol/source.ts';
import { sourceDigest, type Source } from '../../services/core/source/source.ts';
import type { Service } from '../wire/service.ts';

/**
 * The service's sources with a tree, a name and a version that somebody vouches for (an archive, ci, an admin), the most trusted first:
 * with one of these, what is in a host's /usr/src/NAME-VERSION need not be sent, and what is built of it can be signed. A host asks for
 * it by its digest, of which the signed provenance tells it that it got that. Throws `unverified` where the service has told another
 * digest than these facts make.
 */
export const knownSources = async (
  service: Pick<Service, 'sourcesLike'>,
  { name, version, tree }: Pick<Source, 'name' | 'version' | 'tree'>,
): Promise<readonly SourceView[]> => {
  const found = await service.sourcesLike({ name, version, tree });
  const odd = found.find(
    (each) =>
      each.name !== name ||
      each.version !== version ||
      each.tree !== tree ||
      each.digest !== sourceDigest(each),
  );
  if (odd !== undefined)
    throw new KilnError(
      'unverified',
      `the service was asked for ${name}/${version} with the tree ${tree}, and told of another source, ${odd.digest}`,
    );
  return found
    .filter(({ trust, withdrawn }) => trustReaches(trust, 'ci') && withdrawn === null)
    .toSorted((a, b) => TRUSTS.indexOf(b.trust) - TRUSTS.indexOf(a.trust));
};
