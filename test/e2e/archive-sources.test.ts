import { cp, mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { SyncView } from '../../services/core/protocol/archive.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import type { SourceView } from '../../services/core/protocol/source.ts';
import type { IssuedToken } from '../../services/core/protocol/token.ts';
import { readDatabase } from '../../services/storage/database.ts';
import { debianPackage, headerPackages, unpackPackages } from '../machine/debian.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { makeArchive, type OwnArchive } from '../machine/own-archive.ts';
import { CLIENT } from '../machine/places.ts';
import { mustRun, run, type Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { makeSmallRoot } from '../machine/small-root.ts';
import { recordIn } from '../machine/record-place.ts';

/** Debian's own packages of modules, as an archive brings them; the hosts that have these packages send nothing. */

const { release } = sharedKiln();
const HEADERS = String.raw`linux-headers-(?<release>6\.1\.0-\d+-(?<flavour>amd64))`;
const SOURCE = 'usr/src/acpi-call-1.2.2';

describe('modules’ packages of an archive', () => {
  let kiln: KilnService;
  let archive: OwnArchive;
  let host: IssuedToken;
  let root: string;

  beforeAll(async () => {
    kiln = await startKiln(await freshDirectory('archive-sources'), { KILN_LOG_LEVEL: 'warn' });
    await pinToolchain(kiln);
    archive = await makeArchive('archive');
    const packages = ['v4l2loopback-dkms', 'acpi-call-dkms', 'iptables-netflow-dkms', 'dh-dkms'];
    for (const name of [...(await headerPackages(release)), ...packages])
      await archive.addFile(await debianPackage(name));
    await archive.publish();
    await writeFile(join(archive.directory, 'own.sources'), archive.sources);
    host = await kiln.json('token', 'create', 'host');
    root = await makeRootOfDkms();
  });
  afterAll(async () => {
    await kiln.stop();
  });

  const follow = (...options: string[]): Promise<unknown> =>
    kiln.json(
      'archive',
      'add',
      'debs',
      '--sources',
      join(archive.directory, 'own.sources'),
      '--headers',
      HEADERS,
      '--modules',
      '.*-dkms',
      ...options,
    );

  /** A root in which DKMS has installed Debian's acpi-call-dkms; what it built stands for what DKMS would have built. */
  const makeRootOfDkms = async (): Promise<string> => {
    const made = await makeSmallRoot(release);
    const unpacked = await unpackPackages('source-acpi-call-dkms', ['acpi-call-dkms']);
    await mkdir(join(made, 'usr/src'), { recursive: true });
    await cp(join(unpacked, SOURCE), join(made, SOURCE), { recursive: true });
    const tree = join(made, 'var/lib/dkms/acpi-call');
    const own = `1.2.2/${release}/x86_64`;
    await mkdir(join(tree, own, 'module'), { recursive: true });
    await symlink(`/${SOURCE}`, join(tree, '1.2.2/source'));
    await symlink(own, join(tree, `kernel-${release}-x86_64`));
    const installed = join(made, 'lib/modules', release, 'updates/dkms');
    await mkdir(installed, { recursive: true });
    for (const place of [join(tree, own, 'module'), installed])
      await writeFile(join(place, 'acpi_call.ko'), 'built by DKMS');
    return made;
  };

  const asHost = async (...args: string[]): Promise<Ran> => {
    const file = join(kiln.data, 'host.token');
    await writeFile(file, host.secret, { mode: 0o600 });
    return run(CLIENT, args, {
      env: {
        ...process.env,
        KILN_SERVER: kiln.url,
        KILN_TOKEN_FILE: file,
        KILN_CONFIG: join(kiln.data, 'host.config'),
      },
    });
  };

  it('come in as they are, and nothing is built of them', async () => {
    await follow();
    const sync = await kiln.json<SyncView>('kernel', 'sync', '--wait');
    expect(sync).toMatchObject({
      kernels: [{ release, isNew: true }],
      sources: [
        { package: 'acpi-call-dkms', name: 'acpi-call', version: '1.2.2', isNew: true },
        { package: 'iptables-netflow-dkms', name: 'ipt-netflow', isNew: true },
        { package: 'v4l2loopback-dkms', name: 'v4l2loopback', isNew: true },
      ],
      builds: [],
      problems: [],
    });
    expect((await kiln.kiln('source', 'list')).stdout).toMatch(
      /acpi-call\/1\.2\.2 +dkms +sha256:[0-9a-f]{64} +archive:debs/,
    );
    expect(await kiln.json('kernel', 'sync')).toMatchObject({
      sources: [{ isNew: false }, { isNew: false }, { isNew: false }],
      problems: [],
    });
  });

  it('give a host that has one its modules signed, and it sends nothing and may publish nothing', async () => {
    const setup = await asHost(
      'setup',
      kiln.url,
      '--trust-first-use',
      '--token-file',
      join(kiln.data, 'host.token'),
    );
    expect(setup).toMatchObject({ status: 0 });
    const taken = await asHost('import-dkms', '--root', root);
    expect(taken).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/acpi-call\/1\.2\.2 .*taken over/),
    });
    expect(await readdir(join(root, 'lib/modules', release, 'updates/kiln'))).toEqual([
      'acpi_call.ko',
    ]);
    expect((await asHost('status', '--root', root)).stdout).toMatch(
      /acpi-call\/1\.2\.2 +installed +signed/,
    );
    const db = await readDatabase(await recordIn(kiln.data));
    const sent = await db.selectFrom('sent').selectAll().where('token', '=', host.id).execute();
    await db.destroy();
    expect(sent).toEqual([]);
  });

  it('are told of by tree, name and version, to whoever may use them', async () => {
    const [known] = (await kiln.json<readonly SourceView[]>('source', 'list')).filter(
      ({ name }) => name === 'acpi-call',
    );
    const ask = async (query: Readonly<Record<string, string>>): Promise<readonly unknown[]> => {
      const answer = await fetch(
        `${kiln.url}/v1/sources?${new URLSearchParams(query).toString()}`,
        {
          headers: { Authorization: `Bearer ${host.secret}` },
        },
      );
      expect(answer.status).toBe(200);
      return ((await answer.json()) as { items: readonly unknown[] }).items;
    };
    const { tree = '', digest } = known ?? {};
    const wanted = { tree, name: 'acpi-call', version: '1.2.2' };
    expect(await ask(wanted)).toMatchObject([{ digest, trust: 'archive' }]);
    expect(await ask({ ...wanted, name: 'other' })).toEqual([]);
    expect(await ask({ name: 'acpi-call', version: '1.2.2' })).toMatchObject([{ digest }]);
    expect(await ask({ name: 'acpi-call', version: '9' })).toEqual([]);
  });

  it('are built against the sources of packages that theirs depends on, named in BUILD_DEPENDS or not', async () => {
    // As west-chamber-dkms takes a file out of the tree that xtables-addons-dkms has laid beside it.
    const make = 'cp $(find /usr/src -maxdepth 1 -name acpi-call-*)/acpi_call.c leaning.c';
    await archive.add(
      { name: 'a-leaning-dkms', version: '1', depends: 'make, acpi-call-dkms (>= 1.2)' },
      {
        'usr/src/leaning-1/Kbuild': 'obj-m := leaning.o\n',
        'usr/src/leaning-1/dkms.conf': `PACKAGE_NAME=leaning
PACKAGE_VERSION=1
BUILT_MODULE_NAME=leaning
DEST_MODULE_LOCATION=/updates
MAKE="${make}; make -C $kernel_source_dir M=$dkms_tree/leaning/1/build"
`,
      },
    );
    await archive.publish();
    const sync = await kiln.json<SyncView>('kernel', 'sync', '--wait');
    expect(sync.sources.find(({ name }) => name === 'leaning')).toMatchObject({ isNew: true });
    expect(await kiln.json<BuildView>('build', 'leaning', '-k', release)).toMatchObject({
      source: { name: 'leaning' },
      state: 'succeeded',
    });
  });

  it('are built for its new kernels before anybody asks, where the admin says so', async () => {
    await follow('--build-ahead');
    expect((await kiln.kiln('archive', 'list')).stdout).toMatch(/debs .*\.\*-dkms, built ahead/);
    const { status, stdout } = await kiln.kiln('kernel', 'sync', '--wait', '--json', '-q');
    const sync = JSON.parse(stdout) as SyncView;
    // acpi-call was built for the host; the toolchain has not what ipt-netflow needs.
    expect(status).toBe(1);
    expect(sync.builds).toHaveLength(1);
    expect(sync.problems).toEqual([
      expect.stringMatching(/^ipt-netflow for .*lacks the packages libxtables-dev/),
    ]);
    expect(await kiln.json<BuildView>('show', sync.builds[0] ?? '')).toMatchObject({
      source: { name: 'v4l2loopback' },
      signature: { kind: 'signed' },
    });
  });

  it('have names that are no token’s, and a token’s names are not theirs', async () => {
    const source = join(await unpackPackages('source-acpi-call-dkms', ['acpi-call-dkms']), SOURCE);
    const renamed = await kiln.kiln('source', 'push', source, '--version', '1.3');
    expect([renamed.status, renamed.stderr]).toEqual([
      4,
      expect.stringMatching(/acpi-call belongs to the archive debs; .*kiln source give acpi-call/),
    ]);
    await archive.add(
      { name: 'ours-dkms', version: '2' },
      { 'usr/src/ours-2/dkms.conf': 'PACKAGE_NAME=ours\n' },
    );
    await archive.publish();
    const ours = await freshDirectory('ours');
    await mustRun('cp', ['-a', `${source}/.`, ours]);
    await kiln.json('source', 'push', ours, '--name', 'ours');
    const { status, stderr } = await kiln.kiln('kernel', 'sync');
    expect([status, stderr]).toEqual([
      1,
      expect.stringMatching(/ours-dkms: the name ours belongs to the token machine admin/),
    ]);
    expect((await kiln.kiln('source', 'give', 'ours', 'archive:debs')).stdout).toMatch(
      /the name ours belongs to the archive debs/,
    );
    expect((await kiln.kiln('kernel', 'sync')).stderr).not.toMatch(/ours/);
    const nobody = await kiln.kiln('source', 'give', 'ours', 'archive:other');
    expect([nobody.status, nobody.stderr]).toEqual([3, expect.stringMatching(/no archive other/)]);
  });

  it.each([
    [['--modules', '('], /pattern for modules’ packages is not a valid regular expression/],
    [['--build-ahead'], /no sources to build ahead.*--modules/],
  ])('are not followed by %j', async (options, words) => {
    const file = join(archive.directory, 'own.sources');
    const given = ['archive', 'add', 'bad', '--sources', file, '--headers', HEADERS];
    const { status, stderr } = await kiln.kiln(...given, ...options);
    expect([status, stderr]).toEqual([2, expect.stringMatching(words)]);
  });
});
