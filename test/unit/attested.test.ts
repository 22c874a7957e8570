import { generateKeyPairSync, sign, type X509Certificate } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import {
  dsseEnvelope,
  dsseMessage,
  provenanceStatement,
} from '../../services/core/provenance/attestation.ts';
import { mustBeAttested, readAttested } from '../../services/core/provenance/attested.ts';
import { digestOf } from '../../services/core/digest.ts';
import {
  buildIdOf,
  fingerprintInputs,
  fingerprintOf,
} from '../../services/core/build/fingerprint.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { kbuildRecipe } from '../../services/core/build/recipe.ts';
import { builtView, debianKernel, dkmsSource, refusal } from './samples.ts';

const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const certificate = { publicKey } as X509Certificate;
const envelopeOf = (statement: string): string =>
  dsseEnvelope(statement, 'key', sign('sha256', dsseMessage(statement), privateKey));

const inputs = fingerprintInputs(
  {
    source: dkmsSource,
    kernel: debianKernel,
    toolchain: digestOf('toolchain'),
    waived: [],
    dependencies: [{ name: 'spl', version: '2.1', fingerprint: digestOf('spl') }],
    settings: {},
  },
  digestOf('script'),
);
const fingerprint = fingerprintOf(inputs);
const recipe = kbuildRecipe(dkmsSource, debianKernel, 1);
const signed = digestOf('signed');
const unsigned = digestOf('unsigned');
const statement = provenanceStatement({
  build: 'b',
  fingerprint,
  inputs,
  recipe,
  modules: [{ name: 'hello', signed, unsigned }],
});
const { digest, release, arch, compiler, vermagic } = debianKernel;
const view = builtView({
  id: buildIdOf(fingerprint),
  fingerprint,
  source: { digest: dkmsSource.digest, name: dkmsSource.name, version: dkmsSource.version },
  kernel: { digest, release, arch, compiler, vermagic },
  inputs: { ...inputs },
  recipe: { ...recipe },
  modules: [{ name: 'hello', signed, unsigned, size: 1, modinfo: [] }],
  dependencies: [buildIdOf(digestOf('spl'))],
});

describe('what a service says of a build', () => {
  const attested = readAttested(envelopeOf(statement), certificate);

  it('passes where it is what was signed', () =>
    expect(() => mustBeAttested(view, attested)).not.toThrow());

  it.each<[string, Partial<BuildView>]>([
    ['fingerprint', { fingerprint: digestOf('other') }],
    ['id', { id: '0'.repeat(24) }],
    ['inputs', { inputs: { ...inputs, waived: ['pahole'] } }],
    ['inputs', { inputs: { ...inputs, more: 0.5 } }],
    ['recipe', { recipe: { ...recipe, mayLink: false } }],
    ['recipe', { recipe: null }],
    ['source', { source: { ...view.source, version: '0.9' } }],
    ['kernel', { kernel: { ...view.kernel, release: '6.1.0-1-amd64' } }],
    ['kernel', { kernel: { ...view.kernel, arch: 'aarch64' } }],
    ['toolchain', { toolchain: { digest: digestOf('other'), name: 'gcc' } }],
    ['dependencies', { dependencies: [] }],
    ['dependencies', { dependencies: [...view.dependencies, '0'.repeat(24)] }],
    ['modules', { modules: [] }],
    ['modules', { modules: view.modules.map((each) => ({ ...each, name: 'other' })) }],
    ['modules', { modules: view.modules.map((each) => ({ ...each, signed: unsigned })) }],
    ['modules', { modules: [...view.modules, ...view.modules] }],
  ])('is refused where it has another %s', (what, change) =>
    expect(() => mustBeAttested({ ...view, ...change }, attested)).toThrow(
      refusal(
        'unverified',
        new RegExp(`what the service says of build .* is not what was signed \\(${what}\\)`),
      ),
    ),
  );
});

describe('a signed provenance', () => {
  it.each([
    [
      'names other inputs than its fingerprint',
      statement.replace(fingerprint, digestOf('x')),
      /inputs do not match its fingerprint/,
    ],
    ['lacks its inputs', statement.replace('"inputs"', '"other"'), /malformed/],
    [
      'lacks its recipe',
      statement.replace('"recipe":{"mayLink"', '"recipe":{"other"'),
      /malformed/,
    ],
  ])('that %s is refused', (_, text, words) =>
    expect(() => readAttested(envelopeOf(text), certificate)).toThrow(refusal('unverified', words)),
  );

  it('of another key is refused', () => {
    const other = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const forged = { publicKey: other.publicKey } as X509Certificate;
    expect(() => readAttested(envelopeOf(statement), forged)).toThrow(
      refusal('unverified', /was not signed with the pinned certificate/),
    );
  });
});
