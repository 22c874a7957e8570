import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { ingestSource } from '../../services/api/record/ingest.ts';
import { listSources } from '../../services/api/record/list-sources.ts';
import { createArchives } from '../../services/api/coordinator/archives.ts';
import { createKernelIntake } from '../../services/api/coordinator/kernel-intake.ts';
import { createKernelSync, type KernelSync } from '../../services/api/coordinator/kernel-sync.ts';
import { giveName } from '../../services/api/record/owners.ts';
import { noteWithdrawal } from '../../services/api/record/withdrawn.ts';
import { issueToken, type Caller } from '../../services/api/record/tokens.ts';
import { storeUpload, type UploadDeps } from '../../services/api/record/uploads.ts';
import { walk, scanEntries } from '../../client/ask/tree.ts';
import { collect, packPaths } from '../../client/ask/pack.ts';
import { inspectSource, isSourceEvidence } from '../../services/core/source/source.ts';
import type { SyncView } from '../../services/core/protocol/archive.ts';
import type { Log } from '../../services/storage/log.ts';
import { openBlobDirectory } from '../../services/storage/blobs.ts';
import { createReadStream } from 'node:fs';
import { freshDirectory, moduleCode, writeTree } from '../machine/make-source.ts';
import { makeArchive, type OwnArchive } from '../machine/own-archive.ts';
import { mustRun } from '../machine/run.ts';
import { emptyRecord } from '../machine/small-record.ts';

/** What an archive brings of modules' sources: a real archive, apt and record; nothing is built. */

const CLIENT = { token: 'host', role: 'client' } as const;
const PAGE = { limit: 200 };

const confOf = (name: string, version: string, more = ''): string =>
  `PACKAGE_NAME=${name}\nPACKAGE_VERSION=${version}\nBUILT_MODULE_NAME[0]=${name}\nDEST_MODULE_LOCATION[0]=/updates\n${more}`;

/** A source's files below /usr/src. */
const sourceFiles = (name: string, version: string, code = moduleCode(), more = '') => ({
  [`usr/src/${name}-${version}/dkms.conf`]: confOf(name, version, more),
  [`usr/src/${name}-${version}/Makefile`]: `obj-m := ${name}.o\n`,
  [`usr/src/${name}-${version}/${name}.c`]: code,
});

describe('an archive that is followed for modules’ sources', () => {
  let archive: OwnArchive;
  let deps: UploadDeps;
  let sync: KernelSync;
  let now = 1_000_000;

  beforeEach(async () => {
    const db = await emptyRecord('archive-sources');
    const blobs = await openBlobDirectory(await freshDirectory('blobs'));
    deps = { db, blobs, now: () => (now += 1) };
    archive = await makeArchive('own-archive');
    const log = { warn() {} } as unknown as Log;
    const directory = await freshDirectory('apt');
    const all = { ...deps, blobLimit: 1e9, directory, log };
    sync = createKernelSync({
      ...all,
      archives: createArchives(all),
      intake: createKernelIntake(all),
      // Nothing asks for a build here: there is no kernel.
      coordinator: { request: () => Promise.reject(new Error('a build was asked for')) },
    });
    await follow('own');
  });
  afterEach(() => deps.db.destroy());

  const follow = async (name: string, modules = '.*-dkms'): Promise<void> => {
    await deps.db
      .insertInto('archives')
      .values({
        name,
        kind: 'apt',
        sources: archive.sources,
        headers: 'linux-headers-(?<release>.*)',
        modules,
        builds_ahead: 0,
        newest: null,
        made_by: 'admin',
        created_at: 1,
      })
      .execute();
  };
  const look = async (): Promise<SyncView> => {
    await archive.publish();
    await sync.start();
    await sync.settled();
    return sync.state();
  };
  const push = async (directory: string, by: Caller) => {
    const packed = await packPaths([directory], new AbortController().signal);
    const { digest } = await storeUpload(deps, createReadStream(packed.file), { limit: 1e9 }, by);
    const source = await ingestSource(deps, digest, by, {});
    await packed.dispose();
    return source;
  };
  const newToken = async (name: string): Promise<Caller> => {
    const given = { name, role: 'ci', days: 1, names: [], quotas: {} } as const;
    const { id } = await issueToken(deps.db, now, given, 'test');
    return { token: id, role: 'ci', quotas: null };
  };
  const named = async (name: string) =>
    (await listSources(deps.db, CLIENT, { ...PAGE, name })).items.map(({ version, digest }) => ({
      version,
      digest,
    }));

  it('brings each source of each package, and of some none', async () => {
    await archive.add(
      { name: 'two-dkms', version: '2-1', depends: 'dkms, libelf-dev' },
      { ...sourceFiles('left', '1.0'), ...sourceFiles('right', '2.0') },
    );
    await archive.add({ name: 'dh-dkms', version: '3.0' }, { 'usr/bin/dh_dkms': 'no source' });
    await archive.add({ name: 'all-dkms', version: '1', depends: 'two-dkms' }, {});
    await archive.add(
      { name: 'placeholder-dkms', version: '4.3-1' },
      {
        'usr/src/placeholder-4.3/dkms.conf': confOf('placeholder', '"#MODULE_VERSION#"'),
        'usr/src/placeholder-4.3/Makefile': '',
      },
    );
    await archive.add({ name: 'other', version: '1' }, sourceFiles('other', '1'));
    const first = await look();
    expect(first.problems).toEqual([]);
    expect(first.sources).toMatchObject([
      // Behind it, all-dkms, which needs it.
      { package: 'two-dkms', name: 'left', version: '1.0', isNew: true },
      { package: 'two-dkms', name: 'right', version: '2.0', isNew: true },
      { package: 'placeholder-dkms', name: 'placeholder', version: '4.3', isNew: true },
    ]);
    const [left] = (await listSources(deps.db, CLIENT, { ...PAGE, name: 'left' })).items;
    expect(left).toMatchObject({
      trust: 'archive',
      madeBy: 'archive:own',
      needs: ['libelf-dev'],
    });
    // What has no source is not kept.
    expect(await deps.db.selectFrom('uploads').selectAll().execute()).toEqual([]);
    // A second look takes in nothing, and needs no package's file.
    await mustRun('rm', ['-r', join(archive.directory, 'pool')]);
    await sync.start();
    await sync.settled();
    const again = await sync.state();
    expect(again.problems).toEqual([]);
    expect(again.sources).toEqual(first.sources.map((each) => ({ ...each, isNew: false })));
  });

  it('brings the tree that a host has in /usr/src, and tells a client of it that has sent nothing', async () => {
    const files = {
      ...sourceFiles('netflow', '2.6'),
      'usr/src/netflow-2.6/configure': '#!/bin/sh\n',
      'usr/share/doc/netflow-dkms/README.gz': 'read me',
    };
    const root = await writeTree('netflow', files);
    const source = join(root, 'usr/src/netflow-2.6');
    await mustRun('chmod', ['755', join(source, 'configure')]);
    await mustRun('chmod', ['600', join(source, 'Makefile')]);
    await mustRun('mkdir', [join(source, 'empty')]);
    // Debian's iptables-netflow-dkms has such a link.
    await mustRun('ln', [
      '-s',
      '../../share/doc/netflow-dkms/README.gz',
      join(source, 'README.gz'),
    ]);
    await mustRun('ln', [join(source, 'netflow.c'), join(source, 'twin.c')]);
    await mkdir(join(root, 'DEBIAN'));
    await writeFile(
      join(root, 'DEBIAN/control'),
      'Package: netflow-dkms\nVersion: 2.6-4\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: a\n',
    );
    const deb = join(await freshDirectory('deb'), 'netflow-dkms_2.6-4_all.deb');
    await mustRun('dpkg-deb', ['--root-owner-group', '--build', root, deb]);
    await archive.addFile(deb);
    const { sources, problems } = await look();
    expect(problems).toEqual([]);
    const installed = await freshDirectory('installed');
    await mustRun('dpkg-deb', ['--extract', deb, installed]);
    const scan = await scanEntries(
      await collect(walk(join(installed, 'usr/src/netflow-2.6'))),
      isSourceEvidence,
      new AbortController().signal,
    );
    const { tree } = inspectSource(scan);
    const wanted = { ...PAGE, tree: tree.digest, name: 'netflow', version: '2.6' };
    const { items } = await listSources(deps.db, CLIENT, wanted);
    expect(items.map(({ digest }) => digest)).toEqual([sources[0]?.digest]);
    expect((await listSources(deps.db, CLIENT, { ...wanted, version: '2.7' })).items).toEqual([]);
  });

  it('has names of its own, which no token takes', async () => {
    await archive.add({ name: 'net-dkms', version: '1-1' }, sourceFiles('net', '1'));
    await look();
    const ci = await newToken('ci');
    await expect(
      push(await writeTree('net', { 'dkms.conf': confOf('net', '2') }), ci),
    ).rejects.toThrow(/the name net belongs to the archive own; .*kiln source give net/);
    await giveName(deps.db, 'net', ci.token);
    await push(await writeTree('net', { 'dkms.conf': confOf('net', '2') }), ci);
    expect(await named('net')).toHaveLength(2);
  });

  it('does not take a token’s name: its source is there for hosts that have the package, and the sync says so', async () => {
    const ci = await newToken('ci');
    const own = await push(await writeTree('net', { 'dkms.conf': confOf('net', '1') }), ci);
    await archive.add({ name: 'net-dkms', version: '1-1' }, sourceFiles('net', '1'));
    const first = await look();
    const said = expect.stringMatching(
      /^net-dkms: the name net belongs to the token ci .*kiln source give net archive:own/,
    );
    expect(first.problems).toEqual([said]);
    expect(await named('net')).toEqual([{ version: '1', digest: own.digest }]);
    const [brought] = first.sources;
    const [stored] = await deps.db
      .selectFrom('sources')
      .selectAll()
      .where('digest', '=', brought?.digest ?? own.digest)
      .execute();
    expect(stored).toMatchObject({ trust: 'archive', name: 'net' });
    expect((await look()).problems).toEqual([said]);
    // What the admin decides counts from then on; a version that was published stays.
    await giveName(deps.db, 'net', 'archive:own');
    expect((await look()).problems).toEqual([
      expect.stringMatching(/net\/1 was pushed before with other content/),
    ]);
    await archive.add({ name: 'net-dkms', version: '2-1' }, sourceFiles('net', '2'));
    expect((await look()).problems).toEqual([]);
    expect(await named('net')).toHaveLength(2);
  });

  it('raises the trust in what a token has pushed of the same bytes, and says no problem', async () => {
    const ci = await newToken('ci');
    const files = sourceFiles('net', '1');
    const pushed = await push(join(await writeTree('net', files), 'usr/src/net-1'), ci);
    await archive.add({ name: 'net-dkms', version: '1-1' }, files);
    const { sources, problems } = await look();
    expect(problems).toEqual([]);
    expect(sources).toMatchObject([{ digest: pushed.digest }]);
    expect(await deps.db.selectFrom('sources').select('trust').execute()).toEqual([
      { trust: 'archive' },
    ]);
  });

  it('means by a name and version the bytes of the newest package that has them', async () => {
    const code = (extra: string): string => moduleCode(`/* ${extra} */`);
    await archive.add({ name: 'bb-dkms', version: '0.8-9' }, sourceFiles('bb', '0.8', code('a')));
    const [first] = (await look()).sources;
    await archive.remove('bb-dkms');
    await archive.add({ name: 'bb-dkms', version: '0.8-10' }, sourceFiles('bb', '0.8', code('b')));
    const { sources, problems } = await look();
    expect([sources.length, problems]).toEqual([1, []]);
    expect(sources[0]?.digest).not.toBe(first?.digest);
    expect(await named('bb')).toEqual([{ version: '0.8', digest: sources[0]?.digest }]);
    // An archive with an older one, or one that goes back, changes nothing.
    await archive.remove('bb-dkms');
    await archive.add({ name: 'bb-dkms', version: '0.8-9' }, sourceFiles('bb', '0.8', code('a')));
    const back = await look();
    expect([back.sources[0]?.digest, back.problems]).toEqual([first?.digest, []]);
    expect(await named('bb')).toEqual([{ version: '0.8', digest: sources[0]?.digest }]);
  });

  it('has sources that are built against those of packages which theirs depend on, also where these come later', async () => {
    const leaning = { name: 'a-leaning-dkms', version: '1', depends: 'ground-dkms (>= 1), make' };
    await archive.add(leaning, sourceFiles('leaning', '1'));
    await archive.publish();
    await look();
    const dependsOf = async (): Promise<readonly (readonly string[])[]> => {
      const { items } = await listSources(deps.db, CLIENT, { ...PAGE, name: 'leaning' });
      return items.map(({ depends }) => depends);
    };
    expect(await dependsOf()).toEqual([[]]);
    await archive.add({ name: 'ground-dkms', version: '1' }, sourceFiles('ground', '1'));
    await archive.publish();
    const isNew = async (): Promise<unknown> =>
      Object.fromEntries((await look()).sources.map((each) => [each.name, each.isNew]));
    expect(await isNew()).toEqual({ ground: true, leaning: true });
    expect(await dependsOf()).toEqual([['ground']]);
    expect(await isNew()).toEqual({ ground: false, leaning: false });
  });

  it('does not bring back what is withdrawn, where a package that it depends on comes later', async () => {
    const leaning = { name: 'a-leaning-dkms', version: '1', depends: 'ground-dkms' };
    await archive.add(leaning, sourceFiles('leaning', '1'));
    await archive.publish();
    const [source] = (await look()).sources;
    const withdrawn = { kind: 'source', id: source?.digest ?? '', reason: 'it crashes' } as const;
    await noteWithdrawal(deps.db, 1, withdrawn, 'admin');
    await archive.add({ name: 'ground-dkms', version: '1' }, sourceFiles('ground', '1'));
    await archive.publish();
    const { sources } = await look();
    expect(sources.find(({ name }) => name === 'leaning')).toEqual({ ...source, isNew: false });
  });

  it('with packages that are of no use says which, takes in the others, and tries those again', async () => {
    await archive.add({ name: 'good-dkms', version: '1' }, sourceFiles('good', '1'));
    await archive.add(
      { name: 'half-dkms', version: '1' },
      { ...sourceFiles('half', '1'), 'usr/src/nameless/dkms.conf': '' },
    );
    const root = await writeTree('leading-out', {
      ...sourceFiles('out', '1'),
      'DEBIAN/control':
        'Package: out-dkms\nVersion: 1\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: a\n',
    });
    await mustRun('ln', ['-s', '../../../../etc/shadow', join(root, 'usr/src/out-1/out.h')]);
    const deb = join(await freshDirectory('deb'), 'out-dkms_1_all.deb');
    await mustRun('dpkg-deb', ['--root-owner-group', '--build', root, deb]);
    await archive.addFile(deb);
    for (const isFirst of [true, false]) {
      const { sources, problems } = await look();
      expect(problems).toEqual([
        expect.stringMatching(/^half-dkms: \/usr\/src\/nameless is not called after/),
        expect.stringMatching(/^out-dkms: .*leads out of the tree/),
      ]);
      expect(sources).toMatchObject([
        { name: 'good', isNew: isFirst },
        { name: 'half', isNew: true },
      ]);
    }
  });

  it('gives nothing of a package whose bytes are not those that its index names', async () => {
    await archive.add({ name: 'net-dkms', version: '1-1' }, sourceFiles('net', '1'));
    await archive.publish();
    await archive.remove('net-dkms');
    await archive.add({ name: 'net-dkms', version: '1-1' }, sourceFiles('net', '1', 'int evil;'));
    await sync.start();
    await sync.settled();
    expect(await sync.state()).toMatchObject({
      sources: [],
      problems: [expect.stringMatching(/^net-dkms: /)],
    });
    expect(await deps.db.selectFrom('sources').selectAll().execute()).toEqual([]);
    expect(await deps.db.selectFrom('uploads').selectAll().execute()).toEqual([]);
  });
});
