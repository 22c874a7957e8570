import type { X509Certificate } from 'node:crypto';
import { z } from 'zod';
import { readProvenance } from './attestation.ts';
import { digestOf, hexOf } from '../digest.ts';
import { KilnError } from '../errors.ts';
import { canonicalJson } from '../format/canonical-json.ts';

/** That the key of repositories is the signer's: stated by the key that modules are signed with, whose certificate hosts pin. */

/** The file beside a repository's index that has the statement, in a DSSE envelope. */
export const KEY_FILE = 'key.dsse';

const TYPE = 'urn:kiln:repository-key:v1';
const hexOfKey = (armored: string): string => hexOf(digestOf(armored.trim()));

/** An in-toto Statement v1 about the armored public key (OpenPGP) of repositories, as canonical JSON. */
export const repositoryKeyStatement = (armored: string): string =>
  canonicalJson({
    _type: 'https://in-toto.io/Statement/v1',
    subject: [{ name: 'repository.asc', digest: { sha256: hexOfKey(armored) } }],
    predicateType: TYPE,
    predicate: {},
  });

const Statement = z.object({
  subject: z.tuple([z.object({ digest: z.object({ sha256: z.string() }) })]),
  predicateType: z.literal(TYPE),
});

/** Checks that the one trusted certificate's key states that a key is that of repositories. Throws `KilnError('unverified')`. */
export const mustBeRepositoryKey = (
  armored: string,
  envelope: string,
  certificate: X509Certificate,
): void => {
  const refuse = (cause?: unknown): KilnError =>
    new KilnError(
      'unverified',
      'the key of the repositories is not stated to be the signer’s by the certificate that is pinned; ask the admin which certificate is theirs',
      { cause },
    );
  try {
    const { subject } = Statement.parse(JSON.parse(readProvenance(envelope, certificate)));
    if (subject[0].digest.sha256 !== hexOfKey(armored)) throw refuse();
  } catch (cause) {
    throw refuse(cause);
  }
};
