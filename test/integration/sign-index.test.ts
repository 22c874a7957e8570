import { createReadStream } from 'node:fs';
import { appendFile, chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { checkIndex } from '../../services/api/coordinator/index-evidence.ts';
import { hexOf, type Digest } from '../../services/core/digest.ts';
import { SignerJob } from '../../services/core/jobs/jobs.ts';
import { planPackage } from '../../services/core/packages/plan-package.ts';
import type { ModulesSubject } from '../../services/core/packages/subject.ts';
import type { IndexedPackage, IndexFile } from '../../services/core/repository/repository.ts';
import type { SigningKey } from '../../services/signer/key-file.ts';
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
import { createKabiReader } from '../../services/storage/read-kabi.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { packRpm } from '../machine/pack-plan.ts';
import { mustRun } from '../machine/run.ts';
import { refusal } from '../unit/samples.ts';
import {
  contentOf,
  openSigned,
  script,
  SETTING,
  settingsOf,
  type Indexed,
  type Signed,
} from './signed.ts';

/** The signer writes a repository's index of what it signed itself and nothing else, whatever the coordinator tells it. */

let blobs: Blobs;
let key: SigningKey;
let other: SigningKey;
let repositoryKey: RepositoryKey;
let put: Signed['put'];
let signedBuild: Signed['signedBuild'];
let packed: Signed['packed'];
let indexed: Signed['indexed'];
let subject: ModulesSubject;
let good: IndexedPackage;

const index = (...packages: readonly IndexedPackage[]): Promise<Indexed> =>
  indexed(contentOf(packages));
/** What the API checks an index with. */
const checking = () => ({
  blobs,
  publicKey: publicKeyOf(repositoryKey),
  certificate: key.certificate,
  checked: new Set<string>(),
});
beforeAll(async () => {
  ({ blobs, key, other, repositoryKey, put, signedBuild, packed, indexed } = await openSigned());
  subject = await signedBuild(key, '1.0');
  good = await packed(subject);
});

describe('a repository', () => {
  it('is signed of packages of what was signed, and the API finds it so', async () => {
    const settings = await packed(settingsOf(subject));
    const common = await packed({ kind: 'common' });
    const all = [good, settings, common];
    const { files } = await index(...all);
    const deps = checking();
    await expect(checkIndex(files, contentOf(all), deps)).resolves.toBeUndefined();
    const texts = await Promise.all(files.map(({ digest }) => blobs.read(digest, 1024 ** 2)));
    expect(texts.join('')).toMatch(/^Package: hello-modules-settings$/m);
  });

  it.each<[string, () => Promise<IndexedPackage>, RegExp]>([
    [
      'a package with a file that is not planned',
      () => packed(subject, 'deb', (tree) => writeFile(join(tree, 'usr/evil'), '')),
      /has \/usr\/evil, which is not planned/,
    ],
    [
      'a package with a script',
      () =>
        packed(subject, 'deb', (tree) =>
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
    const readKabi = createKabiReader(exchanged);
    const signed = new Map();
    const deps = { blobs: exchanged, key, repositoryKey, checked, signed, readKabi };
    await expect(signIndex(job, deps)).rejects.toThrow(good.digest);
    expect(checked.size).toBe(0);
  });

  it('is not taken from the signer where it is another than was asked for, or another key’s', async () => {
    const { files } = await index(good);
    const deps = checking();
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
    await expect(
      checkIndex(files, content, { ...deps, certificate: other.certificate }),
    ).rejects.toThrow(refusal('unverified', /is not stated by the key of the certificate/));
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
    const deps = checking();
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
