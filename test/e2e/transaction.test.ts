import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { dkmsSource, freshDirectory, moduleCode } from '../machine/make-source.ts';
import { CLIENT } from '../machine/places.ts';
import { mustRun, run, type Ran } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';
import { copyState, makeSmallRoot, stateOf } from '../machine/small-root.ts';

/** Every step of an install, killed or failing: the host is as it was, or as it shall be, and never between. */
describe('an install that', () => {
  const kiln = sharedKiln();
  const { release } = kiln;
  let root: string;
  let pristine: string;
  let certificate: string;
  let older: Readonly<Record<string, string>>;
  let newer: Readonly<Record<string, string>>;

  const push = async (name: string, version: string, code: string): Promise<void> => {
    const source = await dkmsSource(name, '', { [`${name}.c`]: code });
    await mustRun('sed', ['-i', `s/VERSION=1.0/VERSION=${version}/`, join(source, 'dkms.conf')]);
    await kiln.json('source', 'push', source);
  };

  beforeAll(async () => {
    await push('halves-a', '1.0', moduleCode('/* a, the first */'));
    await push('halves-a', '2.0', moduleCode('MODULE_DESCRIPTION("a, the second");'));
    await push('halves-b', '1.0', moduleCode('MODULE_DESCRIPTION("b");'));
    pristine = await makeSmallRoot(release);
    root = await freshDirectory('root');
    await copyState(pristine, root);
    const place = await freshDirectory('pinned');
    certificate = join(place, 'signer.pem');
    const [signer] = (
      JSON.parse(
        await mustRun('curl', [
          '-sSf',
          '-H',
          `Authorization: Bearer ${await kiln.adminToken()}`,
          `${kiln.url}/v1/signers`,
        ]),
      ) as { items: { certificate: string }[] }
    ).items;
    await writeFile(certificate, signer?.certificate ?? '');
    // The older state has the first version of one module; the newer one the second, and another module.
    expect(await onRoot('install', 'halves-a/1.0', '-k', release)).toMatchObject({
      status: 0,
      stderr: '',
    });
    await copyState(root, pristine);
    older = await stateOf(root);
    expect(await install()).toMatchObject({ status: 0, stderr: '' });
    newer = await stateOf(root);
    expect(newer).not.toEqual(older);
  });

  const environment = async () => ({
    ...process.env,
    KILN_SERVER: kiln.url,
    KILN_TOKEN_FILE: join(kiln.data, 'admin.token'),
    KILN_CONFIG: '/nowhere',
  });
  const args = (...words: string[]): string[] => [
    ...words,
    '--root',
    root,
    '--certificate',
    certificate,
    '-q',
  ];
  const onRoot = async (...words: string[]): Promise<Ran> =>
    run(CLIENT, args(...words), { env: await environment() });
  const install = (): Promise<Ran> => onRoot('install', 'halves-a', 'halves-b', '-k', release);
  const traced = async (inject: string, ...words: string[]): Promise<Ran> =>
    run(
      'strace',
      ['-f', '-qq', '-o', '/dev/null', '-e', `inject=${inject}`, CLIENT, ...args(...words)],
      // One thread does all file work, so that the calls are counted in one row.
      { env: { ...(await environment()), UV_THREADPOOL_SIZE: '1', GOMAXPROCS: '1' } },
    );

  const tellState = async (): Promise<'old' | 'new' | object> => {
    const state = await stateOf(root);
    const text = JSON.stringify(state);
    if (text === JSON.stringify(older)) return 'old';
    if (text === JSON.stringify(newer)) return 'new';
    return state;
  };

  /** What differs from both states, for the eye. */
  const between = (ends: readonly { when: number; state: unknown }[]): unknown =>
    ends
      .filter(({ state }) => state !== 'old' && state !== 'new')
      .map(({ when, state }) => [
        when,
        Object.entries(state as object).filter(([path, value]) => older[path] !== value),
      ]);

  /** Tries an install with a fault at the first, second, … call, until it is not met any more; how each ended. */
  const atEachCall = async (
    fault: string,
  ): Promise<readonly { when: number; state: unknown; status: number }[]> => {
    const ends: { when: number; state: unknown; status: number }[] = [];
    for (let when = 1; when <= 80; when += 1) {
      await copyState(pristine, root);
      const { status } = await traced(
        `${fault}:when=${when}`,
        'install',
        'halves-a',
        'halves-b',
        '-k',
        release,
      );
      if (status === 0) return ends;
      expect(await onRoot('recover')).toMatchObject({ status: 0 });
      ends.push({ when, state: await tellState(), status });
    }
    return ends;
  };

  it.each([
    'rename,renameat,renameat2',
    'link,linkat',
    'unlink,unlinkat',
    'fsync,fdatasync',
    'mkdir,mkdirat',
    'symlink,symlinkat',
  ])('is killed at any of its calls of %s leaves all old or all new', async (calls) => {
    const ends = await atEachCall(`${calls}:signal=KILL`);
    expect(between(ends)).toEqual([]);
    if (calls.startsWith('rename') || calls.startsWith('fsync'))
      expect(ends.length).toBeGreaterThan(3);
    process.stderr.write(
      `killed at ${calls}: ${ends.length} times, ${ends.filter(({ state }) => state === 'new').length} of them after the commit\n`,
    );
  });

  it.each([
    'fsync,fdatasync:error=ENOSPC',
    'rename,renameat,renameat2:error=EIO',
    'link,linkat:error=ENOSPC',
  ])('meets %s at any call leaves all old or all new, and says so', async (fault) => {
    const ends = await atEachCall(fault);
    expect(between(ends)).toEqual([]);
    expect(ends.length).toBeGreaterThan(2);
  });

  it('fills a real disk changes nothing', async () => {
    await copyState(pristine, root);
    const modules = join(root, 'lib/modules');
    const size = Number((await mustRun('du', ['-sk', modules])).split('\t')[0]);
    const aside = await freshDirectory('aside');
    await mustRun('cp', ['-a', `${modules}/.`, aside]);
    await mustRun('mount', ['-t', 'tmpfs', '-o', `size=${size + 60}k`, 'full', modules]);
    try {
      await mustRun('cp', ['-a', `${aside}/.`, modules]);
      const before = await stateOf(root);
      expect(await onRoot('install', 'v4l2loopback', 'halves-a', '-k', release)).toMatchObject({
        status: 7,
        stderr: expect.stringMatching(/disk is full; nothing was changed/),
      });
      expect(await stateOf(root)).toEqual(before);
    } finally {
      await mustRun('umount', [modules]);
    }
  });

  it('has no service to ask changes nothing', async () => {
    await copyState(pristine, root);
    const { status, stderr } = await onRoot(
      'install',
      'halves-a',
      '-k',
      release,
      '--server',
      'http://127.0.0.1:1',
      '--patience',
      '0',
    );
    expect({ status, stderr }).toMatchObject({
      status: 5,
      stderr: expect.stringMatching(/127\.0\.0\.1:1/),
    });
    expect(await tellState()).toBe('old');
  });

  it.each(['1999-01-01 00:00:00', '2099-01-01 00:00:00'])(
    'is made by a clock that says %s is made all the same',
    async (clock) => {
      await copyState(pristine, root);
      const { status, stderr } = await run(
        'faketime',
        [clock, CLIENT, ...args('install', 'halves-a', 'halves-b', '-k', release)],
        { env: await environment() },
      );
      expect([status, stderr]).toEqual([0, '']);
      expect(await tellState()).toBe('new');
    },
  );

  it('does not keep what can be had because of what cannot', async () => {
    await copyState(pristine, root);
    const { status, stderr } = await onRoot(
      'install',
      'halves-nobody-has',
      'halves-b',
      '-k',
      release,
    );
    expect([status, stderr]).toEqual([3, expect.stringMatching(/1 of 2 could not be installed/)]);
    expect((await onRoot('verify', 'halves-b')).status).toBe(0);
  });

  it('is rolled back leaves the older state, and a second rollback the newer', async () => {
    await copyState(pristine, root);
    expect((await install()).status).toBe(0);
    expect(await onRoot('rollback')).toMatchObject({ status: 0 });
    expect(await tellState()).toBe('old');
    expect(await onRoot('rollback')).toMatchObject({ status: 0 });
    expect(await tellState()).toBe('new');
  });

  it('moves another module of the name aside puts it back when it is removed', async () => {
    await copyState(pristine, root);
    const rival = join(root, 'lib/modules', release, 'extra/halves-b.ko');
    await mkdir(join(rival, '..'), { recursive: true });
    await mustRun('cp', [join(root, 'lib/modules', release, 'updates/kiln/halves-a.ko'), rival]);
    const bytes = await readFile(rival);
    expect((await onRoot('install', 'halves-b', '-k', release)).status).toBe(0);
    await expect(readFile(rival)).rejects.toThrow(/ENOENT/);
    expect((await onRoot('remove', 'halves-b')).status).toBe(0);
    expect((await readFile(rival)).equals(bytes)).toBe(true);
    expect(await onRoot('status', '--offline')).toMatchObject({
      stdout: expect.not.stringMatching(/halves-b/),
    });
  });

  it('finds the kernel’s own modules compressed compresses its own in the same way', async () => {
    for (const [suffix, program] of [
      ['.xz', ['xz', '--check=crc32']],
      ['.zst', ['zstd', '-q', '--rm']],
    ] as const) {
      await copyState(pristine, root);
      const home = join(root, 'lib/modules', release);
      await mustRun('sh', [
        '-c',
        `find "$0/kernel" -name '*.ko' -exec ${program.join(' ')} {} +`,
        home,
      ]);
      await mustRun('depmod', ['-b', root, release]);
      expect(await onRoot('install', 'halves-b', '-k', release)).toMatchObject({ status: 0 });
      expect(await readFile(join(home, `updates/kiln/halves-b.ko${suffix}`))).toBeDefined();
      expect((await onRoot('verify', 'halves-b')).status).toBe(0);
      expect(
        await mustRun('modinfo', ['-b', root, '-k', release, '-F', 'description', 'halves-b']),
      ).toBe('b\n');
    }
  });
});
