import { join } from 'node:path';
import { Readable } from 'node:stream';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { createEvidence } from '../../services/api/coordinator/evidence.ts';
import type { BuiltRecord } from '../../services/api/record/artifacts.ts';
import { digestOf, type Digest } from '../../services/core/digest.ts';
import { buildIdOf, fingerprintOf } from '../../services/core/build/fingerprint.ts';
import { SignJob, type Outcome } from '../../services/core/jobs/jobs.ts';
import { makeSigningKey } from '../../services/machine/make-signing-key.ts';
import { loadSigningKey, type SigningKey } from '../../services/signer/key-file.ts';
import { signBuild } from '../../services/signer/sign-build.ts';
import { openBlobDirectory, type Blobs } from '../../services/storage/blobs.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { debianKernel, dkmsSource, moduleBytes, refusal, sampleInputs } from '../unit/samples.ts';

type Signed = Extract<Outcome, { kind: 'signed' }>;

/** The signer signs what it can make sure of, and the API holds what comes back against the configured certificate. */
describe('a signed build', () => {
  const script = digestOf('script');
  const { release, vermagic } = debianKernel;
  const bytes = moduleBytes(['name=hello', `vermagic=${vermagic}`]);
  let key: SigningKey;
  let other: SigningKey;
  let blobs: Blobs;
  let record: BuiltRecord;
  const put = async (content: Buffer): Promise<Digest> => {
    const stream = Readable.from([content], { objectMode: false });
    return (await blobs.put(stream, { limit: content.length })).digest;
  };
  const makeKey = async (name: string): Promise<SigningKey> => {
    const at = (file: string): string => join(directory, `${name}.${file}`);
    await makeSigningKey(at('pem'), at('crt'));
    return loadSigningKey(at('pem'), at('crt'));
  };
  let directory: string;
  beforeAll(async () => {
    directory = await freshDirectory('signing');
    blobs = await openBlobDirectory(join(directory, 'blobs'));
    [key, other] = await Promise.all([makeKey('one'), makeKey('two')]);
    record = await recordOf('1.0');
  });
  const recordOf = async (version: string): Promise<BuiltRecord> => {
    const inputs = sampleInputs({ ...dkmsSource, version }, script);
    const fingerprint = fingerprintOf(inputs);
    return {
      build: buildIdOf(fingerprint),
      fingerprint,
      inputs,
      recipe: { steps: [], modules: { kind: 'every' }, mayLink: true, passedOver: [] },
      modules: [{ name: 'hello', unsigned: await put(bytes) }],
    };
  };
  const sign = async (of: BuiltRecord, signing: SigningKey, change = {}): Promise<Signed> => {
    const job = SignJob.parse({ kind: 'sign', ...of, attempt: 0, hash: 'sha256', ...change });
    return (await signBuild(job, { key: signing, blobs, script })) as Signed;
  };
  const check = (outcome: Signed): Promise<void> =>
    createEvidence(blobs, key.certificate).ofSigned(outcome, record);

  it('is taken where it is what was asked for', async () => {
    await expect(check(await sign(record, key))).resolves.toBeUndefined();
  });

  it('is not taken from another key, nor with another build’s provenance', async () => {
    const good = await sign(record, key);
    const foreign = await sign(record, other);
    const { attestation } = await sign(await recordOf('2.0'), key);
    for (const [outcome, words] of [
      [foreign, /signed with another key/],
      [{ ...good, attestation: foreign.attestation }, /not signed with the pinned/],
      [{ ...good, attestation }, /differs from the record/],
      [{ ...good, attestation: record.modules[0]?.unsigned ?? script }, /malformed/],
      [{ ...good, modules: [] }, /not those of the build/],
      [{ ...good, modules: [{ name: 'hello', signed: await put(bytes) }] }, /is not signed/],
    ] as const)
      await expect(check(outcome)).rejects.toThrow(refusal('unverified', words));
  });

  it('is not taken with a module that was signed for another build', async () => {
    const evil = moduleBytes(['name=hello', `vermagic=${vermagic}`, 'evil=1']);
    const modules = [{ name: 'hello', unsigned: await put(evil) }];
    const signed = await sign({ ...record, modules }, key);
    await expect(check(signed)).rejects.toThrow(refusal('unverified', /is not what was built/));
  });

  it.each([
    [
      'of another kernel',
      ['name=hello', 'vermagic=6.1.0-1-amd64 SMP'],
      /for kernel "6.1.0-1-amd64"/,
    ],
    ['of another name', ['name=evil', `vermagic=${release} SMP`], /calls itself "evil"/],
  ])('is never made of a module %s, whoever asks', async (_, modinfo, words) => {
    const modules = [{ name: 'hello', unsigned: await put(moduleBytes(modinfo)) }];
    await expect(sign({ ...record, modules }, key)).rejects.toThrow(refusal('unverified', words));
  });

  it('is never made of inputs that are not those of the fingerprint', async () => {
    const inputs = { ...record.inputs, toolchain: digestOf('evil') };
    await expect(sign(record, key, { inputs })).rejects.toThrow(
      refusal('unverified', /fingerprint does not match its inputs/),
    );
  });
});

describe('what a builder reports', () => {
  it('is not taken where the bytes are not stored, or the modules are not the recipe’s', async () => {
    const blobs = await openBlobDirectory(await freshDirectory('reported'));
    const put = async (text: string): Promise<Digest> => {
      const stream = Readable.from([Buffer.from(text)], { objectMode: false });
      return (await blobs.put(stream, { limit: 1000 })).digest;
    };
    const directory = await freshDirectory('key');
    await makeSigningKey(join(directory, 'pem'), join(directory, 'crt'));
    const { certificate } = await loadSigningKey(join(directory, 'pem'), join(directory, 'crt'));
    const evidence = createEvidence(blobs, certificate);
    const built: Extract<Outcome, { kind: 'built' }> = {
      kind: 'built',
      build: 'f'.repeat(24),
      attempt: 0,
      recipe: { steps: [], modules: { kind: 'every' }, mayLink: true, passedOver: [] },
      modules: [{ name: 'hello', unsigned: await put('module'), size: 6, modinfo: [] }],
      exports: await put('exports'),
      log: await put('log'),
      timings: { prepare: 0, sandbox: 0, check: 0 },
    };
    await expect(evidence.ofBuilt(built)).resolves.toBeUndefined();
    const missing = digestOf('missing');
    const [module] = built.modules;
    const listed = { kind: 'listed', list: [{ path: 'x.ko', name: 'x', strip: true }] } as const;
    for (const [change, code, words] of [
      [{ exports: missing }, 'not-found', /there is no blob/],
      [{ log: missing }, 'not-found', /there is no blob/],
      [{ modules: [{ ...module, unsigned: missing }] }, 'not-found', /there is no blob/],
      [{ modules: [{ ...module, size: 7 }] }, 'unverified', /not of the size/],
      [{ recipe: { ...built.recipe, modules: listed } }, 'unverified', /not those of the recipe/],
    ] as const) {
      const outcome = { ...built, ...change } as typeof built;
      await expect(evidence.ofBuilt(outcome)).rejects.toThrow(refusal(code, words));
    }
  });
});
