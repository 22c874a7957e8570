import type { X509Certificate } from 'node:crypto';
import { z } from 'zod';
import { readProvenance } from './attestation.ts';
import { isSameJson } from '../format/canonical-json.ts';
import { isDigest, toDigest, type Digest } from '../digest.ts';
import { KilnError } from '../errors.ts';
import { buildIdOf, fingerprintOf, type FingerprintInputs } from '../build/fingerprint.ts';
import { fingerprintInputs, recipe } from '../schemas/domain.ts';
import type { BuildView } from '../protocol/build.ts';
import type { Recipe } from '../build/recipe.ts';

/** The facts about a build that a signed provenance states. */
export interface Attested {
  readonly fingerprint: Digest;
  readonly inputs: FingerprintInputs;
  readonly recipe: Recipe;
  /** By their names, without `.ko`. */
  readonly modules: ReadonlyMap<string, { readonly signed: Digest; readonly unsigned: Digest }>;
}

const hex = z.string().regex(/^[0-9a-f]{64}$/);
const Statement = z.object({
  subject: z.array(z.object({ name: z.string(), digest: z.object({ sha256: hex }) })).max(1024),
  predicateType: z.literal('https://slsa.dev/provenance/v1'),
  predicate: z.object({
    buildDefinition: z.object({
      externalParameters: z.object({
        fingerprint: z.custom<Digest>((value) => typeof value === 'string' && isDigest(value)),
        inputs: fingerprintInputs,
      }),
      internalParameters: z.object({ recipe }),
    }),
  }),
});

const bad = (what: string): KilnError =>
  new KilnError('unverified', `${what}; nothing was installed; tell the admin`);

/** Reads an envelope. Throws `unverified` unless the one trusted certificate's key signed it. */
export const readAttested = (envelope: string, certificate: X509Certificate): Attested => {
  const parsed = Statement.safeParse(JSON.parse(readProvenance(envelope, certificate)));
  if (!parsed.success) throw bad('the provenance is malformed');
  const { subject, predicate } = parsed.data;
  const { externalParameters, internalParameters } = predicate.buildDefinition;
  const { fingerprint, inputs } = externalParameters;
  if (fingerprintOf(inputs) !== fingerprint)
    throw bad('the provenance’s inputs do not match its fingerprint');
  const digests = new Map(subject.map(({ name, digest }) => [name, toDigest(digest.sha256)]));
  const modules = new Map<string, { signed: Digest; unsigned: Digest }>();
  for (const [name, signed] of digests) {
    const unsigned = digests.get(`${name}.unsigned`);
    if (name.endsWith('.ko') && unsigned !== undefined)
      modules.set(name.slice(0, -'.ko'.length), { signed, unsigned });
  }
  return { fingerprint, inputs, recipe: internalParameters.recipe, modules };
};

/**
 * Compares a service's view of a build with its signed provenance: source, kernel, toolchain, inputs, recipe, dependencies and exactly
 * the same modules. Throws `unverified`, naming the first part that differs.
 */
export const mustBeAttested = (view: BuildView, attested: Attested): void => {
  const { inputs, recipe: steps, fingerprint, modules } = attested;
  const said: readonly (readonly [what: string, said: unknown, signed: unknown])[] = [
    ['fingerprint', view.fingerprint, fingerprint],
    ['id', view.id, buildIdOf(fingerprint)],
    ['inputs', view.inputs, inputs],
    ['recipe', view.recipe, steps],
    ['source', view.source, pick(inputs.source)],
    [
      'kernel',
      [view.kernel.digest, view.kernel.release, view.kernel.arch],
      [inputs.kernel.tree, inputs.kernel.release, inputs.kernel.arch],
    ],
    ['toolchain', view.toolchain.digest, inputs.toolchain],
    ['dependencies', view.dependencies.toSorted(), dependenciesOf(inputs)],
    [
      'modules',
      view.modules
        .map(({ name, signed, unsigned }) => [name, signed, unsigned].join(' '))
        .toSorted(),
      [...modules].map(([name, { signed, unsigned }]) => [name, signed, unsigned].join(' ')).sort(),
    ],
  ];
  for (const [what, unsigned, signed] of said)
    if (!isSameJson(unsigned, signed))
      throw bad(`what the service says of build ${view.id} is not what was signed (${what})`);
};

/** The builds that one is built against itself, by their ids. */
export const dependenciesOf = ({
  dependencies,
}: {
  readonly dependencies: readonly { readonly fingerprint: Digest }[];
}): readonly string[] =>
  [...new Set(dependencies.map((each) => buildIdOf(each.fingerprint)))].sort();

const pick = ({ digest, name, version }: FingerprintInputs['source']) => ({
  digest,
  name,
  version,
});
