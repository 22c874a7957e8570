import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { digestOf, type Digest } from '../../services/core/digest.ts';
import { buildIdOf, fingerprintOf } from '../../services/core/build/fingerprint.ts';
import { SignerJob, SignJob, type Outcome } from '../../services/core/jobs/jobs.ts';
import { planPackage } from '../../services/core/packages/plan-package.ts';
import type { RepositoryFormat } from '../../services/core/packages/plan.ts';
import type { ModulesSubject, PackageSubject } from '../../services/core/packages/subject.ts';
import type {
  IndexedPackage,
  RepositoryContent,
} from '../../services/core/repository/repository.ts';
import { makeSigningKey } from '../../services/machine/make-signing-key.ts';
import { loadSigningKey, type SigningKey } from '../../services/signer/key-file.ts';
import { signBuild } from '../../services/signer/sign-build.ts';
import { signIndex } from '../../services/signer/sign-index.ts';
import { openBlobDirectory, type Blobs } from '../../services/storage/blobs.ts';
import {
  makeRepositoryKey,
  readRepositoryKey,
  type RepositoryKey,
} from '../../services/storage/openpgp.ts';
import { createKabiReader } from '../../services/storage/read-kabi.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { packPlan, packRpm } from '../machine/pack-plan.ts';
import { debianKernel, dkmsSource, moduleBytes, sampleInputs } from '../unit/samples.ts';

/** A signer with what it signed and packages of that, for the tests of repositories. */

export const script = digestOf('script');
/** Where the setting goes that each build brings. */
export const SETTING = '/lib/modprobe.d/hello.conf';
/** The CRCs in the bytes of each build's module. */
const CRCS = { module_layout: 0xabc, _printk: 0x92997ed8 };

export type Indexed = Extract<Outcome, { kind: 'indexed' }>;

/** The signer's keys and store, and what is done with them. */
export interface Signed {
  readonly blobs: Blobs;
  readonly key: SigningKey;
  /** A key that nobody trusts. */
  readonly other: SigningKey;
  readonly repositoryKey: RepositoryKey;
  /** Stores bytes. */
  put(content: Buffer | string): Promise<Digest>;
  /** A signed build with a setting for hosts, as the subject of a package. */
  signedBuild(signing: SigningKey, version: string): Promise<ModulesSubject>;
  /** A package of a subject, packed and stored. `change` may make it wrong before that. */
  packed(
    of: PackageSubject,
    format?: RepositoryFormat,
    change?: (home: string) => Promise<unknown>,
  ): Promise<IndexedPackage>;
  /** Has the signer write an index. */
  indexed(repository: RepositoryContent): Promise<Indexed>;
}

/** A signer that has signed nothing yet. */
export const openSigned = async (): Promise<Signed> => {
  const directory = await freshDirectory('signed');
  const blobs = await openBlobDirectory(join(directory, 'blobs'));
  const load = async (name: string): Promise<SigningKey> => {
    const [pem, crt] = [join(directory, `${name}.pem`), join(directory, `${name}.crt`)];
    await makeSigningKey(pem, crt);
    return loadSigningKey(pem, crt);
  };
  const [key, other] = [await load('one'), await load('two')];
  const repositoryKey = await readRepositoryKey((await makeRepositoryKey()).privateKey);

  const put: Signed['put'] = async (content) => {
    const bytes = Buffer.from(content);
    const stream = Readable.from([bytes], { objectMode: false });
    return (await blobs.put(stream, { limit: bytes.length })).digest;
  };
  const sized = async (digest: Digest): Promise<number> => (await blobs.find(digest))?.size ?? 0;

  return {
    blobs,
    key,
    other,
    repositoryKey,
    put,

    async signedBuild(signing, version) {
      const setting = await put('options hello a=1\n');
      const files = { [SETTING]: setting };
      const inputs = sampleInputs({ ...dkmsSource, version, files }, script);
      const fingerprint = fingerprintOf(inputs);
      const modinfo = ['name=hello', `vermagic=${debianKernel.vermagic}`];
      const job = SignJob.parse({
        kind: 'sign',
        build: buildIdOf(fingerprint),
        fingerprint,
        inputs,
        recipe: { steps: [], modules: { kind: 'every' }, mayLink: true, passedOver: [] },
        modules: [{ name: 'hello', unsigned: await put(moduleBytes(modinfo, CRCS)) }],
        attempt: 0,
        hash: 'sha256',
      });
      const signed = await signBuild(job, { key: signing, blobs, script });
      if (signed.kind !== 'signed') throw new Error('not signed');
      const [module] = signed.modules;
      if (module === undefined) throw new Error('no module');
      return {
        kind: 'modules',
        build: job.build,
        source: { name: inputs.source.name, version },
        kernel: { release: debianKernel.release, arch: debianKernel.arch, version: null },
        modules: [{ ...module, size: await sized(module.signed), license: 'GPL' }],
        files: [{ place: SETTING, digest: setting, size: await sized(setting) }],
        needs: [],
        attestation: { digest: signed.attestation, size: await sized(signed.attestation) },
        revision: 1,
      };
    },

    async packed(of, format = 'deb', change) {
      const read = (digest: Digest): Promise<Buffer> => blobs.read(digest, 1024 ** 2);
      const pack = format === 'deb' ? packPlan : packRpm;
      const file = await pack(planPackage(format, of), read, change);
      return { subject: of, ...(await blobs.put(createReadStream(file), { limit: 1024 ** 2 })) };
    },

    async indexed(repository) {
      const job = SignerJob.parse({ kind: 'index', generation: 1, repository });
      if (job.kind !== 'index') throw new Error('another job');
      const deps = {
        blobs,
        key,
        repositoryKey,
        checked: new Set<Digest>(),
        readKabi: createKabiReader(blobs),
        signed: new Map(),
      };
      return (await signIndex(job, deps)) as Indexed;
    },
  };
};

/** A repository of these packages, as it is to be signed. */
export const contentOf = (
  packages: readonly IndexedPackage[],
  format: RepositoryFormat = 'deb',
): RepositoryContent => ({
  format,
  suite: 'own',
  channel: 'stable',
  packages,
  madeAt: 1_796_000_000,
  validUntil: 1_796_600_000,
});

/** The settings that a build's source brings, as the subject of a package. */
export const settingsOf = ({ source, files }: ModulesSubject): PackageSubject => ({
  kind: 'settings',
  source,
  licenses: ['GPL'],
  files,
  revision: 1,
});
