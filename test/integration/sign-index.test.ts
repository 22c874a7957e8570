import { createReadStream } from 'node:fs';
import { appendFile, chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { checkIndex } from '../../services/api/coordinator/index-evidence.ts';
import { digestOf, hexOf, type Digest } from '../../services/core/digest.ts';
import { buildIdOf, fingerprintOf } from '../../services/core/build/fingerprint.ts';
import { SignerJob, SignJob, type Outcome } from '../../services/core/jobs/jobs.ts';
import { planPackage } from '../../services/core/packages/plan-package.ts';
import type { ModulesSubject, PackageSubject } from '../../services/core/packages/subject.ts';
import type {
  IndexedPackage,
  IndexFile,
  RepositoryContent,
} from '../../services/core/repository/repository.ts';
import { makeSigningKey } from '../../services/machine/make-signing-key.ts';
import { loadSigningKey, type SigningKey } from '../../services/signer/key-file.ts';
import { signBuild } from '../../services/signer/sign-build.ts';
import { signIndex } from '../../services/signer/sign-index.ts';
import { openBlobDirectory, type Blobs } from '../../services/storage/blobs.ts';
import {
  makeRepositoryKey,
  publicKeyOf,
  readRepositoryKey,
  signInline,
  type RepositoryKey,
} from '../../services/storage/openpgp.ts';
import { signRpm } from '../../services/storage/rpm-signature.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { packPlan, packRpm } from '../machine/pack-plan.ts';
import { mustRun } from '../machine/run.ts';
import { debianKernel, dkmsSource, moduleBytes, refusal, sampleInputs } from '../unit/samples.ts';

/** The signer writes a repository's index of what it signed itself and nothing else, whatever the coordinator tells it. */

type Indexed = Extract<Outcome, { kind: 'indexed' }>;

const script = digestOf('script');
const SETTING = '/lib/modprobe.d/hello.conf';
/** The CRCs in the module's bytes, and as packages need them. */
const CRCS = { module_layout: 0xabc, _printk: 0x92997ed8 };
const IMPORTS = { module_layout: '00000abc', _printk: '92997ed8' };
let blobs: Blobs;
let key: SigningKey;
let other: SigningKey;
let repositoryKey: RepositoryKey;
let subject: ModulesSubject;
let good: IndexedPackage;

const put = async (content: Buffer | string): Promise<Digest> => {
  const bytes = Buffer.from(content);
  const stream = Readable.from([bytes], { objectMode: false });
  return (await blobs.put(stream, { limit: bytes.length })).digest;
};

/** A signed build with a setting for hosts, as the subject of a package. */
const signedBuild = async (signing: SigningKey, version: string): Promise<ModulesSubject> => {
  const setting = await put('options hello a=1\n');
  const inputs = sampleInputs({ ...dkmsSource, version, files: { [SETTING]: setting } }, script);
  const fingerprint = fingerprintOf(inputs);
  const unsigned = await put(
    moduleBytes(['name=hello', `vermagic=${debianKernel.vermagic}`], CRCS),
  );
  const job = SignJob.parse({
    kind: 'sign',
    build: buildIdOf(fingerprint),
    fingerprint,
    inputs,
    recipe: { steps: [], modules: { kind: 'every' }, mayLink: true, passedOver: [] },
    modules: [{ name: 'hello', unsigned }],
    attempt: 0,
    hash: 'sha256',
  });
  const signed = await signBuild(job, { key: signing, blobs, script });
  if (signed.kind !== 'signed') throw new Error('not signed');
  const sized = async (digest: Digest): Promise<number> => (await blobs.find(digest))?.size ?? 0;
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
};

/** A package of a subject, packed and stored. */
const packed = async (
  of: PackageSubject,
  change?: (tree: string) => Promise<unknown>,
): Promise<IndexedPackage> => {
  const read = (digest: Digest): Promise<Buffer> => blobs.read(digest, 1024 ** 2);
  const file = await packPlan(planPackage('deb', of), read, change);
  const stored = await blobs.put(createReadStream(file), { limit: 1024 ** 2 });
  return { subject: of, ...stored };
};

/** The same for a package that tracks the kABI. */
const packedKmp = async (of: PackageSubject): Promise<IndexedPackage> => {
  const read = (digest: Digest): Promise<Buffer> => blobs.read(digest, 1024 ** 2);
  const file = await packRpm(planPackage('kmp', of), read);
  return { subject: of, ...(await blobs.put(createReadStream(file), { limit: 1024 ** 2 })) };
};

/** The settings that a build's source brings. */
const settingsOf = ({ source, files }: ModulesSubject): PackageSubject => ({
  kind: 'settings',
  source,
  licenses: ['GPL'],
  files,
  revision: 1,
});

const contentOf = (
  packages: readonly IndexedPackage[],
  format: RepositoryContent['format'] = 'deb',
): RepositoryContent => ({
  format,
  suite: 'own',
  channel: 'stable',
  packages,
  madeAt: 1_796_000_000,
  validUntil: 1_796_600_000,
});
const index = (...packages: readonly IndexedPackage[]): Promise<Indexed> =>
  indexed(contentOf(packages));
const indexed = async (repository: RepositoryContent): Promise<Indexed> => {
  const job = SignerJob.parse({ kind: 'index', generation: 1, repository });
  if (job.kind !== 'index') throw new Error('another job');
  const deps = {
    blobs,
    certificate: key.certificate,
    repositoryKey,
    checked: new Set<Digest>(),
    signed: new Map(),
  };
  return (await signIndex(job, deps)) as Indexed;
};

beforeAll(async () => {
  const directory = await freshDirectory('sign-index');
  blobs = await openBlobDirectory(join(directory, 'blobs'));
  for (const name of ['one', 'two'])
    await makeSigningKey(join(directory, `${name}.pem`), join(directory, `${name}.crt`));
  const load = (name: string): Promise<SigningKey> =>
    loadSigningKey(join(directory, `${name}.pem`), join(directory, `${name}.crt`));
  [key, other] = [await load('one'), await load('two')];
  repositoryKey = await readRepositoryKey((await makeRepositoryKey()).privateKey);
  subject = await signedBuild(key, '1.0');
  good = await packed(subject);
});

describe('a repository', () => {
  it('is signed of packages of what was signed, and the API finds it so', async () => {
    const settings = await packed(settingsOf(subject));
    const common = await packed({ kind: 'common' });
    const all = [good, settings, common];
    const { files } = await index(...all);
    const deps = { blobs, publicKey: publicKeyOf(repositoryKey), checked: new Set<string>() };
    await expect(checkIndex(files, contentOf(all), deps)).resolves.toBeUndefined();
    const texts = await Promise.all(files.map(({ digest }) => blobs.read(digest, 1024 ** 2)));
    expect(texts.join('')).toMatch(/^Package: hello-modules-settings$/m);
  });

  it.each<[string, () => Promise<IndexedPackage>, RegExp]>([
    [
      'a package with a file that is not planned',
      () => packed(subject, (tree) => writeFile(join(tree, 'usr/evil'), '')),
      /has \/usr\/evil, which is not planned/,
    ],
    [
      'a package with a script',
      () =>
        packed(subject, (tree) =>
          writeFile(join(tree, 'DEBIAN/postinst'), '#!/bin/sh\n', { mode: 0o755 }),
        ),
      /has \/postinst in its control part/,
    ],
    [
      'a module that was not signed',
      async () => {
        const [module] = subject.modules;
        if (module === undefined) throw new Error('no module');
        const signed = await put('evil');
        return packed({ ...subject, modules: [{ ...module, signed }] });
      },
      /is not what was signed \(modules\)/,
    ],
    [
      'a module for another kernel than it was signed for',
      () => packed({ ...subject, kernel: { ...subject.kernel, release: '6.1.0-99-amd64' } }),
      /is not what was signed \(kernel\)/,
    ],
    [
      'a module under another source’s name',
      () => packed({ ...subject, source: { name: 'zfs', version: '1.0' } }),
      /is not what was signed \(source\)/,
    ],
    [
      'a file for hosts that the source did not bring',
      async () =>
        packed({
          ...subject,
          files: [{ place: '/lib/firmware/evil.bin', digest: await put('evil'), size: 4 }],
        }),
      /is not what was signed \(files\)/,
    ],
    [
      'a dependency that is not the build’s',
      () => packed({ ...subject, needs: ['evil'] }),
      /is not what was signed \(dependencies\)/,
    ],
    [
      'settings that no package beside them has',
      async () =>
        packed({
          kind: 'settings',
          source: subject.source,
          licenses: [],
          files: [{ place: SETTING, digest: await put('install hello evil\n'), size: 19 }],
          revision: 1,
        }),
      /are those of no package beside them/,
    ],
    [
      'what another key signed',
      async () => packed(await signedBuild(other, '2.0')),
      /was not signed with the pinned certificate’s key/,
    ],
  ])('is not signed with %s', async (_, made, words) => {
    await expect(index(good, await made())).rejects.toThrow(refusal('unverified', words));
  });

  it('is not signed of bytes that lie in another package’s place in the store', async () => {
    const directory = await freshDirectory('exchanged');
    const exchanged = await openBlobDirectory(directory);
    for (const digest of [good.digest, subject.attestation.digest])
      await exchanged.put(await blobs.open(digest), { limit: 1024 ** 2 });
    const hex = hexOf(good.digest);
    const place = join(directory, hex.slice(0, 2), hex);
    await chmod(place, 0o600);
    await appendFile(place, Buffer.alloc(1024));
    const job = SignerJob.parse({ kind: 'index', generation: 1, repository: contentOf([good]) });
    if (job.kind !== 'index') throw new Error('another job');
    const checked = new Set<Digest>();
    const { certificate } = key;
    const deps = { blobs: exchanged, certificate, repositoryKey, checked, signed: new Map() };
    await expect(signIndex(job, deps)).rejects.toThrow(good.digest);
    expect(checked.size).toBe(0);
  });

  it('is not taken from the signer where it is another than was asked for, or another key’s', async () => {
    const { files } = await index(good);
    const deps = { blobs, publicKey: publicKeyOf(repositoryKey), checked: new Set<string>() };
    const content = contentOf([good]);
    await expect(checkIndex(files, contentOf([]), deps)).rejects.toThrow(
      refusal('unverified', /is not that of what is published/),
    );
    const foreign = await readRepositoryKey((await makeRepositoryKey()).privateKey);
    const release = files.find(({ path }) => path === 'Release');
    const text = (await blobs.read(release?.digest ?? script, 1024 ** 2)).toString();
    const changed = async (signed: string) =>
      Promise.all(
        files.map(async (file) =>
          file.path === 'InRelease' ? { ...file, digest: await put(signed) } : file,
        ),
      );
    for (const [signed, words] of [
      [await signInline(text, foreign), /is not the repository key’s/],
      [await signInline(`${text}evil\n`, repositoryKey), /another text than Release/],
      [text, /is not the repository key’s/],
    ] as const)
      await expect(checkIndex(await changed(signed), content, deps)).rejects.toThrow(
        refusal('unverified', words),
      );
    const [first] = files;
    if (first === undefined) throw new Error('no file');
    // The one that is looked at is not to be another than the one that is kept.
    await expect(
      checkIndex([{ ...first, digest: await put('evil') }, ...files], content, deps),
    ).rejects.toThrow(refusal('unverified', /has a file twice/));
    await expect(
      checkIndex([...files, { ...first, path: 'main/evil' }], content, deps),
    ).rejects.toThrow(refusal('unverified', /a file more, main\/evil/));
  });

  it('of packages that track the kABI is signed where they need what the modules’ bytes import', async () => {
    const [module] = subject.modules;
    if (module === undefined) throw new Error('no module');
    const needing = (imports: Readonly<Record<string, string>>): Promise<Indexed> =>
      packedKmp({
        ...subject,
        modules: [{ ...module, imports }],
      }).then(async (each) =>
        indexed(contentOf([each, await packedKmp(settingsOf(subject))], 'kmp')),
      );
    const { files } = await needing(IMPORTS);
    const primary = files.find(({ path }) => path.endsWith('-primary.xml'));
    const text = (await blobs.read(primary?.digest ?? script, 1024 ** 2)).toString();
    expect(text).toMatch(/name="ksym\(amd64:_printk\)" flags="EQ" epoch="0" ver="92997ed8"/);
    const { _printk, ...without } = IMPORTS;
    for (const wrong of [
      without,
      { ...IMPORTS, _printk: '92997ed9' },
      { ...IMPORTS, more: _printk },
      {},
    ])
      await expect(needing(wrong)).rejects.toThrow(
        refusal('unverified', /is not what was signed \(imports\)/),
      );
    const carried = { ...subject, modules: [{ ...module, imports: IMPORTS }] };
    await expect(index({ ...good, subject: carried })).rejects.toThrow(
      refusal('unverified', /is not what was signed \(imports\)/),
    );
  });

  it('of RPM packages has them signed, always with the same bytes, and no others are taken from the signer', async () => {
    const plan = planPackage('rpm', { kind: 'common' });
    const file = await packRpm(plan, async () => '');
    const stored = await blobs.put(createReadStream(file), { limit: 1024 ** 2 });
    const content = contentOf([{ subject: { kind: 'common' }, ...stored }], 'rpm');
    const { files } = await indexed(content);
    const pool = ({ path }: IndexFile): boolean => path.startsWith('pool/');
    expect((await indexed(content)).files.filter(pool)).toEqual(files.filter(pool));
    const pooled = files.find(({ path }) => path === `pool/kiln/${plan.file}`);
    const signed = await blobs.read(pooled?.digest ?? script, 1024 ** 2);
    const deps = { blobs, publicKey: publicKeyOf(repositoryKey), checked: new Set<string>() };
    await expect(checkIndex(files, content, deps)).resolves.toBeUndefined();
    const home = await freshDirectory('rpmdb');
    const [armored, rpm] = [join(home, 'key.asc'), join(home, 'signed.rpm')];
    await writeFile(armored, deps.publicKey);
    await writeFile(rpm, signed);
    const tool = (...args: string[]): Promise<string> =>
      mustRun('rpmkeys', ['--dbpath', join(home, 'db'), ...args]);
    await tool('--import', armored);
    expect(await tool('--checksig', rpm)).toMatch(/: digests signatures OK$/m);
    const foreign = await readRepositoryKey((await makeRepositoryKey()).privateKey);
    const bytes = await readFile(file);
    const changed = Buffer.from(signed);
    changed.writeUInt8(1, changed.length - 1);
    for (const [wrong, words] of [
      [await signRpm(bytes, foreign), /is not the repository key’s/],
      [changed, /not the package that was made with a signature in it/],
      [bytes, /not the package that was made with a signature in it/],
    ] as const) {
      const digest = await put(wrong);
      const others = files.map((each) =>
        each === pooled ? { ...each, digest, size: wrong.length } : each,
      );
      await expect(checkIndex(others, content, { ...deps, checked: new Set() })).rejects.toThrow(
        refusal('unverified', words),
      );
    }
  });
});
