import type { X509Certificate } from 'node:crypto';
import { provenanceStatement, readProvenance } from '../../core/attestation.ts';
import { digestOf, type Digest } from '../../core/digest.ts';
import { differingSections } from '../../core/elf.ts';
import { KilnError } from '../../core/errors.ts';
import type { FingerprintInputs } from '../../core/fingerprint.ts';
import type { Outcome } from '../../core/jobs.ts';
import { certificateId } from '../../core/module-signer.ts';
import { verifyModule } from '../../core/module-signature.ts';
import type { Recipe } from '../../core/recipe.ts';
import type { Blobs } from '../../storage/blobs.ts';

type Built = Extract<Outcome, { kind: 'built' }>;
type Signed = Extract<Outcome, { kind: 'signed' }>;

/** A build as it stands in SQL when its signature comes. */
export interface BuiltRecord {
  readonly build: string;
  readonly fingerprint: Digest;
  readonly inputs: FingerprintInputs;
  readonly recipe: Recipe;
  readonly modules: readonly { readonly name: string; readonly unsigned: Digest }[];
}

/** Looks whether the bytes are what an outcome says of them. Each throws a `KilnError` that says what is not so. */
export interface Evidence {
  /** Modules are stored, with the digests and sizes that were reported. */
  ofModules(modules: Built['modules']): Promise<void>;
  /** In which sections two modules differ, at most eight of them. */
  difference(one: Digest, other: Digest): Promise<readonly string[]>;
  /** What the configured certificate is called. */
  readonly key: string;
  /** Modules, exports and log are stored, with the digests that were reported; modules those of the recipe. */
  ofBuilt(outcome: Built): Promise<void>;
  /** Each signed module is the unsigned one and the configured key's signature; the provenance is that of this build, word for word. */
  ofSigned(outcome: Signed, record: BuiltRecord): Promise<void>;
}

const MODULE_LIMIT = 1024 ** 3;
const ATTESTATION_LIMIT = 64 * 1024 ** 2;

const refuse = (message: string): KilnError => new KilnError('unverified', message);

export const createEvidence = (
  blobs: Pick<Blobs, 'read' | 'check'>,
  certificate: X509Certificate,
): Evidence => {
  const ofModules: Evidence['ofModules'] = async (modules) => {
    for (const { name, unsigned, size } of modules) {
      if ((await blobs.check(unsigned)).size !== size)
        throw refuse(`${name}.ko is not of the size that was reported`);
    }
  };
  return {
    key: certificateId(certificate),
    ofModules,

    async difference(one, other) {
      const pair = await Promise.all([one, other].map((each) => blobs.read(each, MODULE_LIMIT)));
      return differingSections(pair[0] as Buffer, pair[1] as Buffer).slice(0, 8);
    },

    async ofBuilt({ recipe, modules, exports, log }) {
      if (recipe.modules.kind === 'listed') {
        const names = modules.map(({ name }) => name).sort();
        const listed = recipe.modules.list.map(({ name }) => name).sort();
        if (names.join() !== listed.join()) throw refuse('its modules are not those of its recipe');
      }
      await ofModules(modules);
      await blobs.check(exports);
      await blobs.check(log);
    },

    async ofSigned({ modules, attestation }, record) {
      const names = modules.map(({ name }) => name).sort();
      if (
        names.join() !==
        record.modules
          .map(({ name }) => name)
          .sort()
          .join()
      )
        throw refuse('the signed modules are not those of the build');
      const pairs: { name: string; unsigned: Digest; signed: Digest }[] = [];
      // In the record's own order, as the provenance names them.
      for (const { name, unsigned } of record.modules) {
        const signed = modules.find((each) => each.name === name)?.signed;
        if (signed === undefined) throw refuse(`${name}.ko is not among them`);
        const bytes = verifyModule(await blobs.read(signed, MODULE_LIMIT), certificate);
        if (digestOf(bytes) !== unsigned) throw refuse(`${name}.ko is not what was built`);
        pairs.push({ name, unsigned, signed });
      }
      const envelope = await blobs.read(attestation, ATTESTATION_LIMIT);
      const statement = readProvenance(envelope.toString('utf8'), certificate);
      if (statement !== provenanceStatement({ ...record, modules: pairs }))
        throw refuse('the provenance does not say what the record says of this build');
    },
  };
};

/** What a check found, in words; `null` if nothing. What is no `KilnError` is this machine's own failure, and passes. */
export const problemOf = async (check: Promise<void>): Promise<string | null> => {
  try {
    await check;
    return null;
  } catch (error) {
    if (error instanceof KilnError) return error.message;
    throw error;
  }
};
