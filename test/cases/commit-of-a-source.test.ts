import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import type { SourceView } from '../../services/core/protocol/source.ts';
import { dkmsSource, freshDirectory } from '../machine/make-source.ts';
import { WORK } from '../machine/places.ts';
import { mustRun } from '../machine/run.ts';
import { sharedKiln } from '../machine/shared.ts';

/** README's own push of v4l2loopback, from a directory that Kiln's checkout ignores, recorded Kiln's commit as the source's. */

const kiln = sharedKiln();
let count = 0;

/** The commit that a push of a directory records. */
const pushed = async (directory: string): Promise<string | null> => {
  count += 1;
  const named = ['--name', 'commit-of-a-source', '--version', String(count)];
  return (await kiln.json<SourceView>('source', 'push', directory, ...named)).commit;
};

const git = (directory: string, ...args: string[]): Promise<string> =>
  mustRun('git', ['-C', directory, '-c', 'user.name=a', '-c', 'user.email=a@b.c', ...args]);

/** A checkout with a source in `drivers/tiny`; both directories and the commit. */
const checkout = async (...init: string[]) => {
  const top = await freshDirectory('checkout');
  const directory = join(top, 'drivers/tiny');
  await mkdir(join(top, 'drivers'));
  await rename(await dkmsSource('tiny', ''), directory);
  await writeFile(join(top, '.gitignore'), 'ignored/\n*.o\n');
  await writeFile(join(top, 'README'), 'one\n');
  await git(top, 'init', '-q', ...init);
  await git(top, 'add', '.');
  await git(top, 'commit', '-q', '-m', 'first');
  return { top, directory, commit: (await git(top, 'rev-parse', 'HEAD')).trim() };
};

describe('the commit in a source’s record', () => {
  it('is none for a directory that the repository around it ignores, as .kiln is by Kiln’s own', async () => {
    expect(await pushed(kiln.source)).toBeNull();
    const below = join(WORK, 'test', `source-${process.pid}`);
    await mkdir(join(WORK, 'test'), { recursive: true });
    await rename(await dkmsSource('below', ''), below).catch(async () =>
      mustRun('cp', ['-r', await dkmsSource('below', ''), below]),
    );
    expect(await pushed(below)).toBeNull();
    await mustRun('rm', ['-r', below]);
    const { top, directory } = await checkout();
    await mustRun('cp', ['-r', directory, join(top, 'ignored')]);
    expect(await pushed(join(top, 'ignored'))).toBeNull();
    await mustRun('cp', ['-r', directory, join(top, 'untracked')]);
    expect(await pushed(join(top, 'untracked'))).toBeNull();
  });

  it('is the one that is checked out, for a directory within it whose files are the commit’s', async () => {
    const { top, directory, commit } = await checkout();
    expect(await pushed(directory)).toBe(commit);
    await writeFile(join(top, 'README'), 'two\n');
    expect(await pushed(directory)).toBe(commit);
    await git(top, 'checkout', '-q', '--detach');
    expect(await pushed(directory)).toBe(commit);
    await git(top, 'checkout', '-q', '-b', 'packed/branch');
    await git(top, 'pack-refs', '--all');
    await git(top, 'gc', '-q');
    expect(await pushed(directory)).toBe(commit);
    const linked = join(await freshDirectory('linked'), 'worktree');
    await git(top, 'worktree', 'add', '-q', linked);
    expect(await pushed(join(linked, 'drivers/tiny'))).toBe(commit);
  });

  it('is found in a repository of SHA-256, too', async () => {
    const { directory, commit } = await checkout('--object-format=sha256');
    expect(commit).toHaveLength(64);
    expect(await pushed(directory)).toBe(commit);
  });

  it('is none where a file is changed, missing, more, or executable: an ignored one, too', async () => {
    for (const change of [
      'echo "/* */" >>tiny.c',
      'rm Makefile',
      'touch tiny.h',
      'touch tiny.o',
      'chmod +x tiny.c',
      'git -C ../.. update-index --assume-unchanged drivers/tiny/tiny.c; echo "/* */" >>tiny.c',
    ]) {
      const { directory } = await checkout();
      await mustRun('sh', ['-c', change], { cwd: directory });
      expect({ change, commit: await pushed(directory) }).toEqual({ change, commit: null });
    }
  });
});
