import { describe, expect, it } from '@jest/globals';
import {
  dsseEnvelope,
  dsseMessage,
  provenanceStatement,
  type Provenance,
} from '../../services/core/provenance/attestation.ts';
import { digestOf, hexOf } from '../../services/core/digest.ts';
import { fingerprintInputs, fingerprintOf } from '../../services/core/build/fingerprint.ts';
import { kbuildRecipe } from '../../services/core/build/recipe.ts';
import { debianKernel, dkmsSource } from './samples.ts';

const inputs = fingerprintInputs(
  {
    source: dkmsSource,
    kernel: debianKernel,
    toolchain: digestOf('toolchain'),
    waived: ['pahole'],
    dependencies: [{ name: 'zfs', version: '2.1', fingerprint: digestOf('zfs') }],
    settings: { '/etc/dkms/hello.conf': 'a' },
  },
  digestOf('script'),
);
const provenance: Provenance = {
  build: 'b1',
  fingerprint: fingerprintOf(inputs),
  inputs,
  recipe: kbuildRecipe(dkmsSource, debianKernel, 1),
  modules: [{ name: 'hello', unsigned: digestOf('unsigned'), signed: digestOf('signed') }],
};
const sha256 = (text: string): { sha256: string } => ({ sha256: hexOf(digestOf(text)) });

describe('the provenance of a build', () => {
  it('is an in-toto statement with a SLSA predicate that names all that went in and came out', () => {
    expect(JSON.parse(provenanceStatement(provenance))).toEqual({
      _type: 'https://in-toto.io/Statement/v1',
      subject: [
        { name: 'hello.ko', digest: sha256('signed') },
        { name: 'hello.ko.unsigned', digest: sha256('unsigned') },
      ],
      predicateType: 'https://slsa.dev/provenance/v1',
      predicate: {
        buildDefinition: {
          buildType: 'urn:kiln:build:v1',
          externalParameters: { fingerprint: provenance.fingerprint, inputs },
          internalParameters: { recipe: provenance.recipe },
          resolvedDependencies: [
            { name: 'source hello/1.0', digest: sha256('source tree') },
            { name: 'kernel 6.1.0-56-amd64', digest: sha256('kernel tree') },
            { name: 'toolchain', digest: sha256('toolchain') },
            { name: 'build script', digest: sha256('script') },
          ],
        },
        runDetails: {
          builder: { id: 'urn:kiln:builder' },
          metadata: { invocationId: 'b1' },
        },
      },
    });
  });

  it('is canonical: the same bytes whatever order its parts were set in', () => {
    const reversed = Object.fromEntries(Object.entries(provenance).toReversed());
    expect(provenanceStatement(reversed as unknown as Provenance)).toBe(
      provenanceStatement(provenance),
    );
    expect(provenanceStatement(provenance)).toMatch(/^\{"_type":"[^"]+","predicate":\{/);
  });
});

describe('the DSSE envelope', () => {
  it('is signed over DSSE’s pre-authentication encoding, which counts bytes', () => {
    expect(dsseMessage('{"a":"é"}').toString()).toBe(
      'DSSEv1 28 application/vnd.in-toto+json 10 {"a":"é"}',
    );
  });

  it('holds the statement’s own bytes, the key’s name and the signature', () => {
    const envelope: unknown = JSON.parse(dsseEnvelope('{"a":"é"}', 'k1', Buffer.from([1, 2, 255])));
    expect(envelope).toEqual({
      payloadType: 'application/vnd.in-toto+json',
      payload: Buffer.from('{"a":"é"}').toString('base64'),
      signatures: [{ keyid: 'k1', sig: 'AQL/' }],
    });
  });
});
