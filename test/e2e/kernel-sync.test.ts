import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { debianSources } from '../machine/apt.ts';
import { debianPackage } from '../machine/debian.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { freshDirectory, writeTree } from '../machine/make-source.ts';
import { sharedKiln } from '../machine/shared.ts';

interface Sync {
  readonly kernels: readonly {
    readonly release: string;
    readonly digest: string;
    readonly isNew: boolean;
  }[];
  readonly sources: readonly {
    readonly name: string;
    readonly version: string;
    readonly digest: string;
  }[];
  readonly builds: readonly string[];
  readonly problems: readonly string[];
}

const HEADERS = String.raw`linux-headers-(?<release>6\.1\.0-\d+-(?<flavour>amd64))`;
const shared = sharedKiln();
let kiln: KilnService;
let sources: string;
beforeAll(async () => {
  kiln = await startKiln(await freshDirectory('sync'), { KILN_LOG_LEVEL: 'warn' });
  await pinToolchain(kiln);
  sources = (await debianSources()).join('\n\n');
  await kiln.json('source', 'push', await debianPackage('v4l2loopback-dkms'));
});
afterAll(async () => {
  await kiln.stop();
});
const write = async (text: string): Promise<string> => {
  const file = join(await freshDirectory('sources'), 'archive.sources');
  await writeFile(file, text);
  return file;
};

it('the service takes a distribution’s newest kernel in as verified and builds what is marked for it', async () => {
  await kiln.json(
    'archive',
    'add',
    'debian-12',
    '--sources',
    await write(sources),
    '--headers',
    HEADERS,
  );
  const sync = await kiln.json<Sync>('kernel', 'sync', '--wait');
  expect(sync).toMatchObject({ kernels: [{ release: shared.release, isNew: true }], problems: [] });
  expect((await kiln.kiln('kernel', 'list')).stdout).toMatch(
    /6\.1\.0-\d+-amd64\s+x86_64\s+verified/,
  );
  expect(sync.builds).toHaveLength(1);
  expect(await kiln.json('show', sync.builds[0] ?? '')).toMatchObject({
    state: 'succeeded',
    source: { name: 'v4l2loopback' },
    signature: { kind: 'signed' },
  });
  // The same headers, whoever brings them.
  expect(await kiln.json('kernel', 'push', shared.headers)).toMatchObject({
    digest: sync.kernels[0]?.digest,
    sent: 0,
  });
});

it('another look takes nothing in again, and builds what has been marked since', async () => {
  const late = await writeTree('late', {
    'dkms.conf':
      'PACKAGE_NAME=late\nPACKAGE_VERSION=1\nAUTOINSTALL=yes\nBUILT_MODULE_NAME=late\nDEST_MODULE_LOCATION=/extra\nBUILD_EXCLUSIVE_KERNEL_MAX=5.0\n',
    Makefile: 'obj-m := late.o\n',
    'late.c': '\n',
  });
  await kiln.json('source', 'push', late);
  const { status, stdout } = await kiln.kiln('kernel', 'sync', '--wait', '-q');
  expect([status, stdout]).toEqual([
    0,
    expect.stringMatching(/amd64\s+known\n[0-9a-f]{24}\s+excluded/),
  ]);
});

it('it takes in modules’ sources of Debian 12 and 13 side by side, each of its own archive', async () => {
  const suite = (text: string): string =>
    text.replace(/^Suites:.*bookworm .*$/gm, 'Suites: trixie').replaceAll('bookworm', 'trixie');
  const trixie = suite(sources).replace(/^Components:.*$/gm, 'Components: main contrib');
  const none = ['--headers', '(?<release>none)'];
  for (const [name, text, modules] of [
    ['sources-12', sources, '(acpi-call|langford|dh)-dkms'],
    ['sources-13', trixie, '(acpi-call|langford|zfs|v4l2loopback)-dkms'],
  ] as const)
    await kiln.json(
      'archive',
      'add',
      name,
      '--sources',
      await write(text),
      ...none,
      '--modules',
      modules,
    );
  const { status, stdout, stderr } = await kiln.kiln('kernel', 'sync', '--json', '-q');
  // The name was pushed to by the admin before.
  expect([status, stderr]).toEqual([
    1,
    expect.stringMatching(/v4l2loopback-dkms: the name v4l2loopback belongs to the token/),
  ]);
  const sync = JSON.parse(stdout) as Sync;
  const names = sync.sources.map(({ name, version }) => `${name}/${version.split('.')[0] ?? ''}`);
  expect(names).toEqual([
    'acpi-call/1',
    'langford/0',
    'acpi-call/1',
    'langford/0',
    'v4l2loopback/0',
    'zfs/2',
  ]);
  // Debian 13 has another langford 0.0.20130108 than Debian 12: by that name it is the newer package's, and hosts of both are known by their trees.
  const [, of12, , of13] = sync.sources;
  expect(of12?.digest).not.toBe(of13?.digest);
  const named = await kiln.json<readonly { name: string; digest: string }[]>('source', 'list');
  expect(named.filter(({ name }) => name === 'langford')).toMatchObject([{ digest: of13?.digest }]);
  for (const name of ['sources-12', 'sources-13']) await kiln.kiln('archive', 'remove', name);
});

it.each([
  [
    'take unsigned packages',
    (text: string) => text.replace(/^Types:/gm, 'Trusted: yes\nTypes:'),
    /field trusted.*nothing unsigned/,
  ],
  ['name no keyring', (text: string) => text.replace(/^Signed-By:.*$/gm, ''), /name no Signed-By/],
  ['are no sources', () => 'hello\n', /need Types, URIs and Suites/],
])('sources that %s are refused', async (_, change, words) => {
  const { status, stderr } = await kiln.kiln(
    'archive',
    'add',
    'bad',
    '--sources',
    await write(change(sources)),
    '--headers',
    HEADERS,
  );
  expect([status, stderr]).toEqual([2, expect.stringMatching(words)]);
});

it('an archive that is signed by somebody else gives nothing, and keeps no other archive back', async () => {
  const stranger = join(await freshDirectory('keyring'), 'empty.gpg');
  await writeFile(stranger, '');
  const forged = sources.replace(/^Signed-By:.*$/gm, `Signed-By: ${stranger}`);
  await kiln.json(
    'archive',
    'add',
    'a-stranger',
    '--sources',
    await write(forged),
    '--headers',
    HEADERS,
  );
  const { status, stdout, stderr } = await kiln.kiln('kernel', 'sync', '--json', '-q');
  expect([status, stderr]).toEqual([1, expect.stringMatching(/a-stranger: apt-get update failed/)]);
  expect(JSON.parse(stdout)).toMatchObject({
    kernels: [{ release: shared.release, isNew: false }],
  });
  await kiln.kiln('archive', 'remove', 'a-stranger');
});
