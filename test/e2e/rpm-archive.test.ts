import { appendFile } from 'node:fs/promises';
import { zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { SyncView } from '../../services/core/protocol/archive.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { fewHeaders } from '../machine/few-headers.ts';
import { serveFiles, type FileServer } from '../machine/file-server.ts';
import { LAYOUTS, packLaid } from '../machine/header-layouts.ts';
import { kernelDevel } from '../machine/kernel-devel.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { dkmsSource, freshDirectory } from '../machine/make-source.ts';
import { ownKernel } from '../machine/own-kernel.ts';
import { changeList, repoFile, rpmRepository, smallPackage } from '../machine/rpm-repository.ts';
import { mustRun } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { makeKey, signFile, type SigningKey } from '../machine/signing-keys.ts';

const shared = sharedKiln();
let kiln: KilnService;
let key: SigningKey;
beforeAll(async () => {
  kiln = await startKiln(await freshDirectory('rpm'), { KILN_LOG_LEVEL: 'warn' });
  await pinToolchain(kiln);
  key = await makeKey('Distribution');
  const source = await dkmsSource('followed', 'AUTOINSTALL=yes');
  await kiln.json('source', 'push', source);
});
afterAll(async () => {
  await kiln.stop();
});

const add = (name: string, repo: string, headers: string): Promise<unknown> =>
  kiln.json('archive', 'add', name, '--repo', repo, '--headers', headers);

describe('an archive of RPMs', () => {
  const RELEASE = '6.1.0-427.20.1.el9.x86_64';
  // As text, it would be the newer one.
  const OLDER = '6.1.0-427.9.1.el9.x86_64';
  let server: FileServer;
  let devel: string;
  beforeAll(async () => {
    const headers = await fewHeaders(shared.release);
    const [newer, older] = [
      await ownKernel(headers, shared.release, RELEASE),
      await ownKernel(headers, shared.release, OLDER),
    ];
    devel = await kernelDevel(newer.tree, RELEASE);
    const others = [
      await kernelDevel(older.tree, OLDER),
      await smallPackage({ version: '6.1.0~rc5', release: '999.el9' }),
      await smallPackage({ name: 'kernel-debug-devel', version: '6.2.0' }),
    ];
    server = await serveFiles(
      await rpmRepository([devel, ...others], { packages: key, metadata: null }),
    );
  });
  afterAll(async () => {
    await kiln.kiln('archive', 'remove', 'el9');
    await server.close();
  });

  it('whose packages alone are signed gives its newest kernel as verified, and what is marked for it is built', async () => {
    const repo = await repoFile(server.url, key, 'repo_gpgcheck=0');
    await add('el9', repo, String.raw`kernel-devel-(?<release>.+\.x86_64)`);
    const sync = await kiln.json<SyncView>('kernel', 'sync', '--wait');
    expect(sync).toMatchObject({
      kernels: [{ release: RELEASE, isNew: true }],
      problems: [],
      builds: [expect.any(String)],
    });
    expect(await kiln.json<BuildView>('show', sync.builds[0] ?? '')).toMatchObject({
      state: 'succeeded',
      kernel: { release: RELEASE },
      signature: { kind: 'signed' },
    });
    expect((await kiln.kiln('kernel', 'list')).stdout).toMatch(/\.el9\.x86_64\s+x86_64\s+verified/);
    expect((await kiln.kiln('archive', 'list')).stdout).toMatch(/^el9\s+rpm\s+\S.*kernel-devel/m);
    // The same headers, whoever brings them.
    const { digest } = await kiln.json<{ digest: string }>('kernel', 'push', devel);
    expect(digest).toBe(sync.kernels[0]?.digest);
  });

  it('is not fetched from again for what is known', async () => {
    const before = server.asked.length;
    expect(await kiln.json<SyncView>('kernel', 'sync')).toMatchObject({
      kernels: [{ release: RELEASE, isNew: false }],
      problems: [],
    });
    expect(server.asked.slice(before)).toEqual([
      '/repodata/repomd.xml',
      expect.stringMatching(/^\/repodata\/[0-9a-f]+-primary\.xml\.gz$/),
    ]);
  });

  it('gives an older kernel, too, when somebody asks for a module for it', async () => {
    const built = await kiln.json<BuildView>('build', 'followed', '-k', OLDER);
    expect(built).toMatchObject({
      state: 'succeeded',
      kernel: { release: OLDER },
      signature: { kind: 'signed' },
    });
  });
});

it('an archive of SUSE’s layout, with signed metadata, gives the flavour and the source that it stands on', async () => {
  const laid = await LAYOUTS['openSUSE']?.(await fewHeaders(shared.release), shared.release);
  if (laid === undefined) throw new Error('no such layout');
  const [flavour = [], common = []] = laid.packages;
  const [version = '', release = ''] = /^([\d.]+)-([\d.]+)/.exec(laid.release)?.slice(1) ?? [];
  const exact = { version, release: `${release}.1` };
  const packages = [
    await packLaid(laid, flavour, {
      name: 'kernel-default-devel',
      ...exact,
      depends: `kernel-devel = ${version}-${release}.1, kernel-macros`,
    }),
    await packLaid(laid, common, { name: 'kernel-devel', ...exact, arch: 'noarch' }),
    // A newer one, which is another kernel's.
    await smallPackage({ name: 'kernel-devel', version, release: '150600.99.1' }),
  ];
  const signers = { packages: key, metadata: key };
  const top = await rpmRepository(packages, signers, '--general-compress-type=xz');
  const repo = await repoFile(`file://${top}`, key, 'autorefresh=1');
  const headers = String.raw`kernel-(?<flavour>default)-devel-(?<release>[\d.]+-[\d.]+)\.\d+\.x86_64`;
  await add('leap', repo, headers);
  const sync = await kiln.json<SyncView>('kernel', 'sync', '--wait');
  expect(sync).toMatchObject({
    kernels: [{ release: laid.release, isNew: true }],
    problems: [],
  });
  expect(await kiln.json<BuildView>('show', sync.builds[0] ?? '')).toMatchObject({
    state: 'succeeded',
    kernel: { release: laid.release },
  });
  await kiln.kiln('archive', 'remove', 'leap');
});

it('a list of packages may be compressed with zstd, and a key file may hold several keys', async () => {
  const old = await makeKey('Distribution before');
  const top = await rpmRepository([await smallPackage()], { packages: key, metadata: null });
  await changeList(
    top,
    (xml) => `${xml}\n`,
    (xml) => zstdCompressSync(xml),
  );
  await signFile(key, `${top}/repodata/repomd.xml`);
  await appendFile(old.armored, await mustRun('cat', [key.armored]));
  await add('zstd', await repoFile(`file://${top}`, old), 'kernel-devel-(?<release>.+)');
  // All is verified; then the file says that it holds no headers.
  const { problems } = await kiln.json<SyncView>('kernel', 'sync').catch((error: Error) => ({
    problems: [error.message],
  }));
  expect(problems).toEqual([
    expect.stringMatching(/5\.14\.0-1\.el9\.x86_64: the headers have no \.config/),
  ]);
  await kiln.kiln('archive', 'remove', 'zstd');
});
