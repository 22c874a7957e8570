import { readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { fewHeaders } from '../machine/few-headers.ts';
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
  const { digest } = await service.json<{ digest: string }>(
    'kernel',
    'push',
    await fewHeaders(shared.release),
  );
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

describe('a tarball that is not acceptable', () => {
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
    await writeFile(file, 'this is some text\n'.repeat(100));
    await refused(['source', 'push', file], /neither a tarball/);
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

  it('are refused when their links lead to a hundred directories', async () => {
    const files: Record<string, string> = {
      'usr/src/linux-headers-a/.config': 'CONFIG_X86_64=y\n',
      'usr/src/linux-headers-a/include/generated/utsrelease.h': header,
    };
    for (let index = 0; index < 100; index += 1) files[`usr/src/linux-headers-${index}/x`] = '';
    const tree = await writeTree('hundred', files);
    for (let index = 0; index < 100; index += 1)
      await symlink(
        `../linux-headers-${index}/x`,
        join(tree, 'usr/src/linux-headers-a', String(index)),
      );
    await refused(['kernel', 'push', tree], /over 16 directories/);
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
      /toolchain sha256:0+ is not ready here; those ready: debian-12-gcc-12/,
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

  it('ends when a source was pushed under another name than its own', async () => {
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
