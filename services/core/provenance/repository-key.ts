import type { X509Certificate } from 'node:crypto';
import { z } from 'zod';
import { readProvenance } from './attestation.ts';
import { digestOf, hexOf } from '../digest.ts';
import { KilnError } from '../errors.ts';
import { canonicalJson } from '../format/canonical-json.ts';

/** Which key repositories have: stated by the key that modules are signed with, whose certificate hosts pin. */

/** The file beside a repository's index that has the statement, in a DSSE envelope. */
export const KEY_FILE = 'key.dsse';

const TYPE = 'urn:kiln:repository-key:v1';

/** What is stated. */
export interface StatedKey {
  /** The armored public key (OpenPGP). */
  readonly key: string;
  /** Until when it is, in seconds since 1970: as long as the index beside it. */
  readonly validUntil: number;
}

/** An in-toto Statement v1 about the key of repositories, as canonical JSON. */
export const repositoryKeyStatement = ({ key, validUntil }: StatedKey): string =>
  canonicalJson({
    _type: 'https://in-toto.io/Statement/v1',
    subject: [{ name: 'repository.asc', digest: { sha256: hexOf(digestOf(key)) } }],
    predicateType: TYPE,
    predicate: { key, validUntil },
  });

const Statement = z.object({
  predicateType: z.literal(TYPE),
  predicate: z.object({ key: z.string().max(64 * 1024), validUntil: z.number() }),
});

/**
 * The key that the one trusted certificate's key states to be that of repositories; `now` is in seconds since 1970. Throws
 * `KilnError('unverified')`.
 */
export const statedKey = (
  envelope: string,
  certificate: X509Certificate,
  now: number,
): StatedKey => {
  let stated: StatedKey;
  try {
    stated = Statement.parse(JSON.parse(readProvenance(envelope, certificate))).predicate;
  } catch (cause) {
    throw new KilnError(
      'unverified',
      'the key of the repositories is not stated by the key of the certificate that is pinned; ask the admin which certificate is theirs',
      { cause },
    );
  }
  if (stated.validUntil < now)
    throw new KilnError(
      'unverified',
      'what the service says of the key of its repositories is out of date; ask the admin to look at kiln repo list',
    );
  return stated;
};
