import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  dkmsSource,
  freshDirectory,
  kbuildSource,
  moduleCode,
  writeTar,
  writeTree,
  type OddEntry,
} from '../machine/make-source.ts';
import { pinToolchain, startKiln, type KilnService } from '../machine/kiln-service.ts';
import { mustRun } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';

/** Bad input gets one clear sentence and exit status 2, and leaves nothing behind. A Kiln of its own, so that what is left can be counted. */

const shared = sharedKiln();
const data = await freshDirectory('strict');
let kiln: KilnService & { readonly kernel: string };

beforeAll(async () => {
  const service = await startKiln(data, { KILN_LOG_LEVEL: 'warn' });
  await pinToolchain(service);
  await service.json('source', 'push', shared.source);
  const { digest } = await service.json<{ digest: string }>('kernel', 'push', shared.headers);
  kiln = { ...service, kernel: digest };
});

afterAll(async () => {
  await kiln.stop();
});

const blobs = async (): Promise<number> =>
  (await readdir(join(kiln.data, 'blobs'), { recursive: true, withFileTypes: true })).filter(
    (entry) => entry.isFile(),
  ).length;

const refused = async (args: readonly string[], sentence: RegExp): Promise<void> => {
  const before = {
    blobs: await blobs(),
    sources: await kiln.json('source', 'list'),
    kernels: await kiln.json('kernel', 'list'),
  };
  const { status, stdout, stderr } = await kiln.kiln(...args, '--quiet');
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
  expect(stderr).toMatch(sentence);
  expect(stderr.trim().split('\n')).toHaveLength(1);
  expect({
    blobs: await blobs(),
    sources: await kiln.json('source', 'list'),
    kernels: await kiln.json('kernel', 'list'),
  }).toEqual(before);
};

const good: OddEntry[] = [
  { name: 'Kbuild', text: 'obj-m := good.o\n' },
  { name: 'good.c', text: moduleCode() },
];

function* manyEntries(count: number): Generator<OddEntry> {
  yield* good;
  for (let index = 0; index < count; index += 1) yield { name: `f${index}` };
}

describe('an archive that is not acceptable', () => {
  const cases: [string, OddEntry[], RegExp][] = [
    [
      'an absolute path',
      [...good, { name: '/etc/passwd', text: 'x' }],
      /absolute path "\/etc\/passwd"/,
    ],
    ['a path with ..', [...good, { name: 'a/../../x', text: 'x' }], /leaves the tree/],
    [
      'a link out of the tree',
      [...good, { name: 'l', type: 'symlink', linkname: '../../etc' }],
      /link "l" leads out of the tree/,
    ],
    [
      'a link through links out of the tree',
      [
        ...good,
        { name: 'p/q/l', type: 'symlink', linkname: '../..' },
        { name: 'm', type: 'symlink', linkname: 'p/q/l/../x' },
      ],
      /link "m" leads out/,
    ],
    [
      'links in a circle',
      [
        ...good,
        { name: 'a', type: 'symlink', linkname: 'b' },
        { name: 'b', type: 'symlink', linkname: 'a' },
      ],
      /round in a circle/,
    ],
    [
      'a file below a link',
      [...good, { name: 'l', type: 'symlink', linkname: '.' }, { name: 'l/x', text: 'x' }],
      /below "l", which is not a directory/,
    ],
    [
      'a hard link to nothing',
      [...good, { name: 'h', type: 'link', linkname: '/etc/shadow' }],
      /absolute path/,
    ],
    [
      'a device',
      [...good, { name: 'sda', type: 'block-device', devmajor: 8, devminor: 0 }],
      /"sda", a block-device/,
    ],
    ['a pipe', [...good, { name: 'pipe', type: 'fifo' }], /"pipe", a fifo/],
    ['a file twice', [...good, { name: 'good.c', text: 'other' }], /"good.c" twice/],
    [
      'no Makefile',
      [{ name: 'good.c', text: moduleCode() }],
      /neither a dkms\.conf nor a Kbuild or Makefile/,
    ],
    ['two sources', [{ name: 'a/Kbuild' }, { name: 'b/Kbuild' }], /several module sources/],
  ];

  it.each(cases)('is refused: %s', async (label, entries, sentence) => {
    await refused(
      ['source', 'push', await writeTar(label.replaceAll(/\W+/g, '-'), entries)],
      sentence,
    );
  });

  it('is refused: no tarball at all', async () => {
    const file = join(await freshDirectory('text'), 'not.tar');
    await writeFile(file, 'this is no tarball\n'.repeat(100));
    await refused(['source', 'push', file], /no tar archive/);
  });

  it.each(['gzip', 'xz', 'zstd'])('is refused: a truncated %s tarball', async (program) => {
    const tar = await writeTar('whole', [
      ...good,
      { name: 'big', text: Array.from({ length: 50_000 }, Math.random).join() },
    ]);
    const directory = await freshDirectory('cut');
    await mustRun('sh', [
      '-c',
      `${program} -c "$1" | head -c 100000 > "$2"`,
      'sh',
      tar,
      join(directory, 'cut.tar'),
    ]);
    await refused(['source', 'push', join(directory, 'cut.tar')], /broken or cut short/);
  });

  it('is refused: a truncated plain tarball', async () => {
    const tar = await writeTar('whole', [...good, { name: 'big', text: 'x'.repeat(100_000) }]);
    await writeFile(tar, (await readFile(tar)).subarray(0, 50_000));
    await refused(['source', 'push', tar], /broken or cut short/);
  });

  it('is refused: a million entries', async () => {
    await refused(
      ['source', 'push', await writeTar('many', manyEntries(60_000))],
      /over 50000 entries/,
    );
  });

  it('is refused: a bomb of a few kilobytes that unpacks to gigabytes', async () => {
    const directory = await freshDirectory('bomb');
    const bomb = join(directory, 'bomb.tar.zst');
    await mustRun('sh', [
      '-c',
      'mkdir "$1/t" && truncate -s 3G "$1/t/zero" && touch "$1/t/Kbuild" && tar -C "$1/t" -c . | zstd -q -o "$2" && rm -r "$1/t"',
      'sh',
      directory,
      bomb,
    ]);
    expect((await readFile(bomb)).length).toBeLessThan(1024 * 1024);
    await refused(['source', 'push', bomb], /unpacks to over \d+ bytes/);
  });
});

describe('headers that are not acceptable', () => {
  const header = '#define UTS_RELEASE "6.1.0-99-amd64"\n';

  it('are refused without a .config', async () => {
    const tree = await writeTree('noconfig', {
      Makefile: '',
      'include/generated/utsrelease.h': header,
    });
    await refused(['kernel', 'push', tree], /no \.config/);
  });

  it('are refused when they are a hundred kernels’', async () => {
    const files: Record<string, string> = {
      'usr/src/linux-headers-a/.config': 'CONFIG_X86_64=y\n',
      'usr/src/linux-headers-a/include/generated/utsrelease.h': header,
    };
    for (let index = 0; index < 100; index += 1) files[`usr/src/linux-headers-${index}/x`] = '';
    await refused(['kernel', 'push', await writeTree('hundred', files)], /101 header directories/);
  });

  it('are refused when what is read of them would fill the memory', async () => {
    const text = '#'.repeat(3_900_000);
    const entries = Array.from({ length: 6 }, (_, index) => ({ name: `d${index}/.config`, text }));
    await refused(['kernel', 'push', await writeTar('evidence', entries)], /too many files like/);
  });

  it('are refused without a release', async () => {
    await refused(
      ['kernel', 'push', await writeTree('norelease', { '.config': 'CONFIG_X86_64=y\n' })],
      /utsrelease\.h/,
    );
  });

  it('are refused by the build when they are for another CPU', async () => {
    const tree = await writeTree('arm', {
      '.config': 'CONFIG_ARM64=y\n',
      'include/generated/utsrelease.h': header,
      Makefile: '',
    });
    const { digest } = await kiln.json<{ digest: string }>('kernel', 'push', tree);
    await refused(
      ['build', 'v4l2loopback', '-k', digest],
      /debian-12-gcc-12: it builds for x86_64, the kernel is for aarch64/,
    );
  });

  it('are refused by the build when no toolchain has their compiler, unless that is waived', async () => {
    const tree = await writeTree('clang', {
      '.config': 'CONFIG_X86_64=y\nCONFIG_CC_VERSION_TEXT="clang version 99.0"\n',
      'include/generated/utsrelease.h': header,
      Makefile: '',
    });
    const { digest } = await kiln.json<{ digest: string }>('kernel', 'push', tree);
    await refused(
      ['build', 'v4l2loopback', '-k', digest],
      /built with "clang version 99\.0"\. Nearest: debian-12-gcc-12: .*--waive compiler/,
    );
  });
});

describe('a request that is not acceptable', () => {
  it('is refused: an unknown toolchain', async () => {
    await refused(
      ['build', 'v4l2loopback', '-k', kiln.kernel, '--toolchain', `sha256:${'0'.repeat(64)}`],
      /no toolchain sha256:0+ ready here; there is debian-12-gcc-12/,
    );
  });

  it('is refused: other content under a name and version that are taken', async () => {
    await kiln.json('source', 'push', await dkmsSource('taken', ''));
    await refused(
      ['source', 'push', await dkmsSource('taken', '# changed')],
      /taken\/1\.0 was pushed before with other content/,
    );
  });

  it('is answered with what to do when source or kernel are not here', async () => {
    const source = await kiln.kiln('build', 'nothing-like-it', '-k', shared.release);
    expect(source).toMatchObject({
      status: 3,
      stderr: expect.stringMatching(/no source nothing-like-it here.*kiln source push/),
    });
    const kernel = await kiln.kiln('build', 'v4l2loopback', '-k', '5.0.0-1-amd64');
    expect(kernel).toMatchObject({
      status: 3,
      stderr: expect.stringMatching(/no headers of kernel 5\.0\.0-1-amd64.*kiln kernel push/),
    });
  });
});

describe('the HTTP service itself', () => {
  let token: string;
  beforeAll(async () => {
    token = await kiln.adminToken();
  });
  const send = (method: string, path: string, body?: string): Promise<Response> =>
    fetch(`${kiln.url}${path}`, {
      method,
      headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' },
      ...(body === undefined ? {} : { body }),
    });

  it.each([
    [
      'bytes with another digest',
      'PUT',
      `/v1/blobs/sha256:${'a'.repeat(64)}`,
      'x',
      422,
      'digest-mismatch',
    ],
    ['a path that is no digest', 'PUT', '/v1/blobs/latest', 'x', 400, 'bad-request'],
    ['a body that is no JSON', 'POST', '/v1/builds', '{', 400, 'bad-request'],
    [
      'a body with an unknown member',
      'POST',
      '/v1/sources',
      `{"blob":"sha256:${'a'.repeat(64)}","url":"x"}`,
      400,
      'bad-request',
    ],
    [
      'a body over the limit',
      'POST',
      '/v1/builds',
      `{"x":"${'x'.repeat(300_000)}"}`,
      413,
      'too-large',
    ],
    [
      'a blob that is not there',
      'POST',
      '/v1/sources',
      `{"blob":"sha256:${'a'.repeat(64)}"}`,
      404,
      'not-found',
    ],
    [
      'an artifact that is not there',
      'GET',
      `/v1/artifacts/sha256:${'a'.repeat(64)}`,
      undefined,
      404,
      'not-found',
    ],
    ['a build that is not there', 'GET', '/v1/builds/none', undefined, 404, 'not-found'],
    ['a state that is none', 'GET', '/v1/builds?state=lost', undefined, 400, 'bad-request'],
    ['a path that is none', 'GET', '/v2', undefined, 404, 'not-found'],
  ])('answers %s with a problem document', async (_label, method, path, body, status, code) => {
    const response = await send(method, path, body);
    expect(response.headers.get('content-type')).toMatch(/^application\/problem\+json/);
    expect(await response.json()).toMatchObject({
      status,
      code,
      type: `urn:kiln:error:${code}`,
      detail: expect.any(String),
      title: expect.any(String),
    });
    expect(response.status).toBe(status);
  });

  /** A wish of the largest size there is, but for its settings. */
  const wish = (settings: Readonly<Record<string, string>> = {}) => ({
    source: { name: 's'.repeat(64), version: '1'.repeat(64) },
    kernel: {
      release: 'r'.repeat(128),
      build: '#'.repeat(256),
      options: `sha256:${'a'.repeat(64)}`,
      arch: 'x'.repeat(32),
    },
    toolchain: `sha256:${'b'.repeat(64)}`,
    waive: ['compiler', 'linker', 'assembler', 'pahole', 'rustc'],
    settings,
    retry: false,
  });
  const wishes = (count: number, settings?: Readonly<Record<string, string>>): string =>
    JSON.stringify({ wishes: Array.from({ length: count }, () => wish(settings)) });

  it('answers 1000 wishes of the largest size at once', async () => {
    // Control characters need most room on the wire.
    const settings = { '/etc/dkms/a.conf': '\u0001'.repeat(1000) };
    const response = await send('POST', '/v1/resolve', wishes(1000, settings));
    const { items } = (await response.json()) as { items: unknown[] };
    expect([response.status, items.length]).toEqual([200, 1000]);
  });

  it.each([
    ['1001 of them', () => wishes(1001), 400, /^wishes: at most 1000 at once; ask for the others/],
    [
      'too much settings in all',
      () => wishes(20, { '/etc/dkms/a.conf': 'a'.repeat(60_000) }),
      400,
      /^wishes: the settings of all of them are over 1048576 bytes; ask for fewer at once/,
    ],
    [
      'more than any wishes need',
      () => `{"wishes":["${'a'.repeat(12_000_000)}"]}`,
      413,
      /^the body is over 10387456 bytes, the limit of this request; ask for fewer things at once/,
    ],
  ])('refuses wishes clearly: %s', async (_label, body, status, words) => {
    const response = await send('POST', '/v1/resolve', body());
    const { detail } = (await response.json()) as { detail: string };
    expect([response.status, detail]).toEqual([status, expect.stringMatching(words)]);
  });

  it('reads no wishes of somebody without a token', async () => {
    const response = await fetch(`${kiln.url}/v1/resolve`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: '{ no JSON',
    });
    expect(response.status).toBe(401);
  });

  it('does not hand out what was uploaded, only what was built', async () => {
    const [source] = await kiln.json<{ digest: string }[]>('source', 'list');
    expect((await send('GET', `/v1/artifacts/${source?.digest ?? ''}`)).status).toBe(404);
    expect((await send('GET', `/v1/blobs/${shared.toolchain}`)).status).toBe(404);
  });

  it('ends a build of a source that was pushed under another name than its own', async () => {
    const source = await kbuildSource('fine');
    await writeFile(
      join(source, 'dkms.conf'),
      'PACKAGE_NAME="real-$((1))"\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME=fine\nDEST_MODULE_LOCATION=/updates\n',
    );
    const { status, stderr } = await kiln.kiln(
      'build',
      source,
      '-k',
      kiln.kernel,
      '--name',
      'fake',
      '-q',
    );
    expect(status).toBe(1);
    expect(stderr).toMatch(/dkms\.conf says real-1\/1, but the source was pushed as fake\/1/);
  });
});
