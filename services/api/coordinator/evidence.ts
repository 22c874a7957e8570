import type { X509Certificate } from 'node:crypto';
import { provenanceStatement, readProvenance } from '../../core/provenance/attestation.ts';
import { digestOf, type Digest } from '../../core/digest.ts';
import { differingSections } from '../../core/format/elf.ts';
import { KilnError } from '../../core/errors.ts';
import type { Outcome } from '../../core/jobs/jobs.ts';
import { certificateId } from '../../core/module/module-signer.ts';
import { verifyModule } from '../../core/module/module-signature.ts';
import type { Blobs } from '../../storage/blobs.ts';
import type { BuiltRecord } from '../record/artifacts.ts';

type Built = Extract<Outcome, { kind: 'built' }>;
type Signed = Extract<Outcome, { kind: 'signed' }>;

/** Checks that stored bytes are what an outcome says of them. Each throws a `KilnError` that names the difference. */
export interface Evidence {
  /** Checks that modules are stored, with the digests and sizes that were reported. */
  ofModules(modules: Built['modules']): Promise<void>;
  /** The names of up to eight sections in which two modules differ. */
  difference(one: Digest, other: Digest): Promise<readonly string[]>;
  /** The id of the configured certificate. */
  readonly key: string;
  /** Checks that modules, exports and log are stored, with the digests that were reported, and that the modules are the recipe's. */
  ofBuilt(outcome: Built): Promise<void>;
  /** Checks that each signed module is the unsigned one with the configured key's signature, and that the provenance is exactly this build's. */
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
        if (names.join() !== listed.join()) throw refuse('the modules are not those of the recipe');
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
        if (signed === undefined) throw refuse(`${name}.ko is missing`);
        const bytes = verifyModule(await blobs.read(signed, MODULE_LIMIT), certificate);
        if (digestOf(bytes) !== unsigned) throw refuse(`${name}.ko is not what was built`);
        pairs.push({ name, unsigned, signed });
      }
      const envelope = await blobs.read(attestation, ATTESTATION_LIMIT);
      const statement = readProvenance(envelope.toString('utf8'), certificate);
      if (statement !== provenanceStatement({ ...record, modules: pairs }))
        throw refuse('the provenance differs from the record of this build');
    },
  };
};

/** The message of a check that failed, `null` if it passed. Errors other than `KilnError` are this machine's own failures and are thrown on. */
export const problemOf = async (check: Promise<void>): Promise<string | null> => {
  try {
    await check;
    return null;
  } catch (error) {
    if (error instanceof KilnError) return error.message;
    throw error;
  }
};
