import { verify, type X509Certificate } from 'node:crypto';
import { z } from 'zod';
import { canonicalJson, type Canonical } from '../format/canonical-json.ts';
import { hexOf, type Digest } from '../digest.ts';
import { KilnError } from '../errors.ts';
import type { FingerprintInputs } from '../build/fingerprint.ts';
import type { Recipe } from '../build/recipe.ts';

/** The facts that a build's provenance states. */
export interface Provenance {
  readonly build: string;
  readonly fingerprint: Digest;
  readonly inputs: FingerprintInputs;
  readonly recipe: Recipe;
  readonly modules: readonly {
    readonly name: string;
    readonly unsigned: Digest;
    readonly signed: Digest;
  }[];
}

const PAYLOAD_TYPE = 'application/vnd.in-toto+json';

/**
 * An in-toto Statement v1 with a SLSA v1 provenance predicate, as canonical JSON.
 * Its subjects are the signed modules and the unsigned ones that a rebuild gives again.
 */
export const provenanceStatement = (provenance: Provenance): string => {
  const { inputs } = provenance;
  const dependency = (name: string, digest: Digest): Canonical => ({
    name,
    digest: { sha256: hexOf(digest) },
  });
  return canonicalJson({
    _type: 'https://in-toto.io/Statement/v1',
    subject: provenance.modules.flatMap(({ name, signed, unsigned }) => [
      { name: `${name}.ko`, digest: { sha256: hexOf(signed) } },
      { name: `${name}.ko.unsigned`, digest: { sha256: hexOf(unsigned) } },
    ]),
    predicateType: 'https://slsa.dev/provenance/v1',
    predicate: {
      buildDefinition: {
        buildType: 'urn:kiln:build:v1',
        externalParameters: {
          fingerprint: provenance.fingerprint,
          inputs: { ...inputs } as unknown as Canonical,
        },
        internalParameters: { recipe: provenance.recipe as unknown as Canonical },
        resolvedDependencies: [
          dependency(`source ${inputs.source.name}/${inputs.source.version}`, inputs.source.tree),
          dependency(`kernel ${inputs.kernel.release}`, inputs.kernel.tree),
          dependency('toolchain', inputs.toolchain),
          dependency('build script', inputs.script),
        ],
      },
      runDetails: {
        builder: { id: 'urn:kiln:builder' },
        metadata: { invocationId: provenance.build },
      },
    },
  });
};

/** DSSE's pre-authentication encoding: the bytes that are signed. */
export const dsseMessage = (statement: string): Buffer => {
  const payload = Buffer.from(statement);
  return Buffer.concat([
    Buffer.from(`DSSEv1 ${PAYLOAD_TYPE.length} ${PAYLOAD_TYPE} ${payload.length} `),
    payload,
  ]);
};

/** A DSSE envelope around a statement. `keyId` names the certificate whose key signed. */
export const dsseEnvelope = (statement: string, keyId: string, signature: Buffer): string =>
  JSON.stringify({
    payloadType: PAYLOAD_TYPE,
    payload: Buffer.from(statement).toString('base64'),
    signatures: [{ keyid: keyId, sig: signature.toString('base64') }],
  });

const Envelope = z.object({
  payloadType: z.literal(PAYLOAD_TYPE),
  payload: z.string(),
  signatures: z.array(z.object({ sig: z.string() })).min(1),
});
/** The statement in an envelope that the one trusted certificate's key signed. Throws `KilnError('unverified')`. */
export const readProvenance = (envelope: string, certificate: X509Certificate): string => {
  try {
    const { payload, signatures } = Envelope.parse(JSON.parse(envelope));
    const statement = Buffer.from(payload, 'base64').toString('utf8');
    const signature = Buffer.from(signatures[0]?.sig ?? '', 'base64');
    if (!verify('sha256', dsseMessage(statement), certificate.publicKey, signature))
      throw bad('was not signed with the pinned certificate’s key');
    return statement;
  } catch (cause) {
    throw cause instanceof KilnError ? cause : bad('is malformed', cause);
  }
};

const bad = (what: string, cause?: unknown): KilnError =>
  new KilnError('unverified', `the provenance ${what}; install the module again`, { cause });
