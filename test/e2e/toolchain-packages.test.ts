import { cp, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { ToolchainView } from '../../services/core/protocol/toolchain.ts';
import type { ToolchainPackages } from '../../services/core/toolchain/toolchain-packages.ts';
import { relayArchive, type ArchiveRelay } from '../machine/archive-relay.ts';
import { startRelay } from '../machine/faulty-network.ts';
import { startKiln, type KilnService } from '../machine/kiln-service.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { CHECKOUT, CLIENT } from '../machine/places.ts';
import { mustRun, run, type Ran } from '../machine/run.ts';
import { IS_THOROUGH } from '../machine/thorough.ts';

/** What toolchains are made of: when the archive has moved on from a lock, and when what a lock names was kept. */

const MAKE = `${CHECKOUT}/images/make-toolchain`;
const READY = `${CHECKOUT}/test/machine/ready-toolchain`;
const NEVER = '99.0-1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef';

/** Folders as in `images/`: one of each suite, whose lock names a version that never was, and one that is added to another. */
let folders: string;
const place = (...parts: readonly string[]): string => join(folders, ...parts);
const writeFolder = async (name: string, description: object, lock: string): Promise<void> => {
  await mkdir(place(name));
  await writeFile(place(name, 'toolchain.json'), JSON.stringify({ name, ...description }));
  await writeFile(place(name, 'packages.lock'), lock.replace(/^make .*$/m, `make ${NEVER}`));
  await writeFile(place(name, 'rootfs.sha256'), `${'0'.repeat(64)}\n`);
};
beforeAll(async () => {
  folders = await freshDirectory('folders');
  const lockOf = (folder: string): Promise<string> =>
    readFile(`${CHECKOUT}/images/${folder}/packages.lock`, 'utf8');
  const bookworm = await lockOf('debian-12-gcc-12');
  await writeFolder('base', { suite: 'bookworm', packages: ['gcc', 'patch'] }, bookworm);
  await writeFolder('bookworm', { from: 'base', packages: ['make'] }, bookworm);
  const trixie = await lockOf('debian-13-gcc-14');
  await writeFolder('trixie', { suite: 'trixie', packages: ['make'] }, trixie);
});
const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );
const hashOf = async (file: string): Promise<string> =>
  `sha256:${(await mustRun('sha256sum', [file])).slice(0, 64)}`;

/** In the short form one suite stands for both. */
const SUITES: readonly string[] = IS_THOROUGH ? ['bookworm', 'trixie'] : ['bookworm'];

describe.each(SUITES)('a lock for %s that names a version that never was', (suite) => {
  it('ends make-toolchain with 3 and the package, before anything is made', async () => {
    const output = place(`${suite}-none.tar`);
    const { status, stderr } = await run(MAKE, [place(suite), output]);
    expect([status, stderr]).toEqual([
      3,
      expect.stringMatching(/the archive does not have .*make=99\.0-1/),
    ]);
    expect(stderr).toContain(`does not have all packages of ${place(suite)}/packages.lock`);
    expect([await isThere(output), await isThere(`${output}.part`)]).toEqual([false, false]);
  });

  it('is no archive that lacks it where none can be reached: that is 5, in apt’s words', async () => {
    const { status, stderr } = await run('unshare', ['-n', MAKE, place(suite), '/nowhere.tar']);
    expect([status, stderr]).toEqual([5, expect.stringMatching(/Failed to fetch/)]);
    expect(stderr).toMatch(/packages of .* could not be fetched/);
  });
});

describe('a machine that is made ready', () => {
  let ran: readonly Ran[];
  /** Debian's archive at another address. */
  let archive: ArchiveRelay;
  afterAll(() => archive.close());
  beforeAll(async () => {
    archive = await relayArchive('127.0.0.1');
    const make = (suite: string, ...options: readonly string[]): Promise<Ran> =>
      run(READY, [
        place(suite),
        place(`${suite}.tar`),
        '--keep',
        place(`kept-${suite}`),
        ...options,
      ]);
    const last = SUITES.at(-1) ?? '';
    ran = await Promise.all(
      SUITES.map((suite) => (suite === last ? make(suite, '--mirror', archive.uri) : make(suite))),
    );
    expect(archive.asked()).toContain(`/dists/${last}/`);
  });

  it.each(SUITES)(
    'has %s’s toolchain of today’s packages, and the lock as it was',
    async (suite) => {
      const { status, stdout, stderr } = ran[SUITES.indexOf(suite)] as Ran;
      expect([status, stderr]).toEqual([0, expect.stringMatching(/make=99\.0-1/)]);
      expect(stdout).toMatch(
        /the archive has moved on from .*packages\.lock: making it of today’s/,
      );
      const files = await mustRun('tar', ['-tf', place(`${suite}.tar`)]);
      expect(files).toContain('./usr/bin/make\n');
      expect(files.includes('./usr/bin/patch\n')).toBe(suite === 'bookworm');
      expect(await readFile(place(suite, 'packages.lock'), 'utf8')).toContain(NEVER);
    },
  );

  describe('and keeps the packages', () => {
    let kiln: KilnService;
    let digest: string;
    const push = (directory: string | null, server = kiln.url): Promise<Ran> =>
      kiln.kiln(
        '--server',
        server,
        'toolchain',
        'push',
        place('bookworm.tar'),
        '--name',
        'small',
        ...(directory === null ? [] : ['--packages', directory]),
      );
    beforeAll(async () => {
      kiln = await startKiln(await freshDirectory('keeping'), { KILN_LOG_LEVEL: 'warn' });
      digest = await hashOf(place('bookworm.tar'));
    });
    afterAll(async () => {
      await kiln.stop();
    });
    const packages = async (directory: string): Promise<readonly string[]> =>
      (await readdir(directory)).filter((name) => name.endsWith('.deb'));
    /** A copy of what was kept, with a change. */
    const changed = async (change: (directory: string) => Promise<void>): Promise<string> => {
      const directory = await freshDirectory('changed');
      await cp(place('kept-bookworm'), directory, { recursive: true });
      await change(directory);
      return directory;
    };

    it('in the service: each is sent once, and none that is not the toolchain’s', async () => {
      expect((await push(null)).stdout).not.toMatch(/kept with it/);
      const without = await kiln.kiln('toolchain', 'packages', digest);
      expect([without.status, without.stderr]).toEqual([
        3,
        expect.stringMatching(/were not kept; .*--packages/),
      ]);
      const first = await push(place('kept-bookworm'));
      expect([first.status, first.stderr]).toEqual([0, expect.any(String)]);
      expect(first.stdout).toMatch(/\d+ packages of .*, kept with it/);
      const between = await startRelay(kiln.url);
      expect((await push(place('kept-bookworm'), between.url)).status).toBe(0);
      expect(between.asked()).toMatch(/HEAD \/v1\/blobs\//);
      expect(between.asked()).not.toMatch(/PUT /);
      await between.close();

      if (IS_THOROUGH) {
        const another = await push(place('kept-trixie'));
        expect([another.status, another.stderr]).toEqual([
          2,
          expect.stringMatching(/has what another toolchain was made of/),
        ]);
      }
      const incomplete = await push(
        await changed(async (directory) => {
          const [make = ''] = (await packages(directory)).filter((name) =>
            name.startsWith('make_'),
          );
          await writeFile(join(directory, make), 'other bytes');
        }),
      );
      expect([incomplete.status, incomplete.stderr]).toEqual([
        2,
        expect.stringMatching(/has not all that its packages\.lock names: make=/),
      ]);
      const older = await push(
        await changed(async (directory) => {
          const lock = join(directory, 'packages.lock');
          const text = await readFile(lock, 'utf8');
          await writeFile(lock, text.replace(/^make \S+/m, 'make 1.0-1'));
        }),
      );
      expect([older.status, older.stderr]).toEqual([
        2,
        expect.stringMatching(
          /not the packages that the toolchain was made of: the toolchain has make 4/,
        ),
      ]);
      const swapped = await push(
        await changed(async (directory) => {
          const lock = join(directory, 'packages.lock');
          const text = await readFile(lock, 'utf8');
          const hash = (name: string): string =>
            new RegExp(`^${name} \\S+ (\\S+)$`, 'm').exec(text)?.[1] ?? '';
          await writeFile(lock, text.replace(hash('make'), hash('patch')));
        }),
      );
      expect([swapped.status, swapped.stderr]).toEqual([
        2,
        expect.stringMatching(/ is patch .* for amd64, not make 4/),
      ]);
      const kept = await kiln.json<ToolchainPackages>('toolchain', 'packages', digest);
      expect(kept.packages).toHaveLength((await packages(place('kept-bookworm'))).length);
      expect(await kiln.json<ToolchainView[]>('toolchain', 'list')).toMatchObject([
        { digest, isRemakeable: true },
      ]);
    });

    it('so that they make the same digest with no archive in reach, or with one that has the rest', async () => {
      const { secret } = await kiln.json<{ secret: string }>('token', 'create', 'an-auditor');
      await writeFile(place('auditor.token'), secret);
      const fetched = place('fetched');
      await mustRun(CLIENT, ['toolchain', 'packages', digest, '-o', fetched], {
        env: { ...process.env, KILN_SERVER: kiln.url, KILN_TOKEN_FILE: place('auditor.token') },
      });
      expect(await readFile(join(fetched, 'packages.lock'), 'utf8')).toBe(
        await readFile(place('kept-bookworm', 'packages.lock'), 'utf8'),
      );
      const fewer = await changed(async (directory) => {
        for (const name of await packages(directory))
          if (name.startsWith('make_')) await rm(join(directory, name));
      });
      await mustRun('unshare', ['-n', MAKE, fetched, place('again.tar')]);
      expect(await hashOf(place('again.tar'))).toBe(digest);
      // The archive is asked for the rest alone.
      const alone = await run('unshare', ['-n', MAKE, fewer, '/nowhere.tar']);
      expect([alone.status, alone.stderr]).toEqual([
        5,
        expect.stringMatching(/: 1 packages of .* could not be fetched/),
      ]);
      if (!IS_THOROUGH) return;
      await mustRun(MAKE, ['--mirror', archive.uri, fewer, place('mirrored.tar')]);
      expect(await hashOf(place('mirrored.tar'))).toBe(digest);
    });
  });
});
