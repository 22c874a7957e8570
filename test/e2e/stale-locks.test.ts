import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { CHECKOUT } from '../machine/places.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { mustRun, run, type Ran } from '../machine/run.ts';

/** Locks whose packages the archive does not have: what a clone finds on any day after Debian's next point release. */

const MAKE = `${CHECKOUT}/images/make-toolchain`;
const READY = `${CHECKOUT}/test/machine/ready-toolchain`;
const NEVER = '99.0-1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef';

/** Folders as in `images/`: one of each suite, whose lock names a version that never was, and one that is added to another. */
let folders: string;
const folderOf = (suite: string): string => join(folders, suite);
const describeToolchain = async (
  name: string,
  description: object,
  lock: string,
): Promise<void> => {
  await mkdir(folderOf(name));
  await writeFile(join(folderOf(name), 'toolchain.json'), JSON.stringify({ name, ...description }));
  await writeFile(join(folderOf(name), 'packages.lock'), lock);
  await writeFile(join(folderOf(name), 'rootfs.sha256'), `${'0'.repeat(64)}\n`);
};
beforeAll(async () => {
  folders = await freshDirectory('stale');
  const locked = (folder: string): Promise<string> =>
    readFile(`${CHECKOUT}/images/${folder}/packages.lock`, 'utf8');
  const stale = (lock: string): string => lock.replace(/^make .*$/m, `make ${NEVER}`);
  const bookworm = stale(await locked('debian-12-gcc-12'));
  await describeToolchain('base', { suite: 'bookworm', packages: ['patch'] }, bookworm);
  await describeToolchain('bookworm', { from: 'base', packages: ['make'] }, bookworm);
  const trixie = stale(await locked('debian-13-gcc-14'));
  await describeToolchain('trixie', { suite: 'trixie', packages: ['make'] }, trixie);
});
const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

describe.each(['bookworm', 'trixie'])(
  'a lock for %s that names a version that never was',
  (suite) => {
    it('ends make-toolchain with 3 and the package, before anything is made', async () => {
      const output = join(folders, `${suite}-none.tar`);
      const { status, stderr } = await run(MAKE, [folderOf(suite), output]);
      expect([status, stderr]).toEqual([
        3,
        expect.stringMatching(/the archive has not .*make=99\.0-1/),
      ]);
      expect(stderr).toContain(`has not all that ${folderOf(suite)}/packages.lock names`);
      expect([await isThere(output), await isThere(`${output}.part`)]).toEqual([false, false]);
    });

    it('is no archive that lacks it where none can be reached: that is 5, in apt’s words', async () => {
      const { status, stderr } = await run('unshare', [
        '-n',
        MAKE,
        folderOf(suite),
        '/nowhere.tar',
      ]);
      expect([status, stderr]).toEqual([5, expect.stringMatching(/Failed to fetch/)]);
      expect(stderr).toMatch(/packages that .* names are not at hand, and could not be fetched/);
    });
  },
);

describe('a machine that is made ready', () => {
  let ran: readonly Ran[];
  const suites = ['bookworm', 'trixie'];
  beforeAll(async () => {
    ran = await Promise.all(
      suites.map((suite) => run(READY, [folderOf(suite), join(folders, `${suite}.tar`)])),
    );
  });

  it.each(suites)(
    'has %s’s toolchain of today’s packages, and the lock as it was',
    async (suite) => {
      const { status, stdout, stderr } = ran[suites.indexOf(suite)] as Ran;
      expect([status, stderr]).toEqual([0, expect.stringMatching(/make=99\.0-1/)]);
      expect(stdout).toMatch(
        /the archive has moved on from .*packages\.lock: making it of today’s/,
      );
      const tar = join(folders, `${suite}.tar`);
      const files = await mustRun('tar', ['-tf', tar]);
      expect(files).toContain('./usr/bin/make\n');
      expect(files.includes('./usr/bin/patch\n')).toBe(suite === 'bookworm');
      expect(await readFile(join(folderOf(suite), 'packages.lock'), 'utf8')).toContain(NEVER);
    },
  );
});
