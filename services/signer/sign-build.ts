import { Readable } from 'node:stream';
import { dsseEnvelope, dsseMessage, provenanceStatement } from '../core/provenance/attestation.ts';
import type { Digest } from '../core/digest.ts';
import type { Outcome, SignJob } from '../core/jobs/jobs.ts';
import { signModule, verifyModule } from '../core/module/module-signature.ts';
import { checkModuleToSign, checkSignJob } from '../core/jobs/sign-check.ts';
import type { Blobs } from '../storage/blobs.ts';
import type { SigningKey } from './key-file.ts';

const MODULE_LIMIT = 1024 ** 3;

/** What a signer signs with. */
export interface SignDeps {
  readonly key: SigningKey;
  readonly blobs: Blobs;
  /** Digest of the in-container build script. */
  readonly script: Digest;
}

/**
 * Signs a build's modules and its provenance. The bytes are read by digest, which is recomputed, and parsed: they must be what the
 * job says they are. Each signature is verified before its module is stored. Nothing is reported unless all of it succeeded.
 * Throws `KilnError('unverified')` for what is not to be signed.
 */
export const signBuild = async (
  job: SignJob,
  { key, blobs, script }: SignDeps,
): Promise<Outcome> => {
  checkSignJob(job, script);
  const modules: { name: string; unsigned: Digest; signed: Digest }[] = [];
  for (const { name, unsigned } of job.modules) {
    const bytes = await blobs.read(unsigned, MODULE_LIMIT);
    checkModuleToSign(bytes, name, job);
    const signed = await signModule(bytes, job.hash, key.certificate, key);
    verifyModule(signed, key.certificate);
    modules.push({ name, unsigned, signed: await store(signed, blobs) });
  }
  const statement = provenanceStatement({
    build: job.build,
    fingerprint: job.fingerprint,
    inputs: job.inputs,
    recipe: job.recipe,
    modules,
  });
  const signature = await key.sign('sha256', dsseMessage(statement));
  const attestation = await store(Buffer.from(dsseEnvelope(statement, key.id, signature)), blobs);
  return {
    kind: 'signed',
    build: job.build,
    attempt: job.attempt,
    modules: modules.map(({ name, signed }) => ({ name, signed })),
    attestation,
  };
};

const store = async (bytes: Buffer, blobs: Blobs): Promise<Digest> =>
  (await blobs.put(Readable.from([bytes], { objectMode: false }), { limit: bytes.length })).digest;
