import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { moduleNameOf } from '../../services/core/module/module-name.ts';
import { moduleIndex } from '../../services/storage/module-index.ts';
import { newestRelease } from '../machine/debian.ts';
import { indexedKernel } from '../machine/indexed-kernel.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { mustRun } from '../machine/run.ts';

/** kmod's binary index, beside what depmod writes. */

describe('the index of modules', () => {
  it('is depmod’s of a whole kernel, byte for byte', async () => {
    const release = await newestRelease();
    const home = join(await indexedKernel(release), 'lib/modules', release);
    const text = await readFile(join(home, 'modules.dep'), 'utf8');
    const lines = text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => `${moduleNameOf(line.split(':', 1)[0] ?? '')} ${line}`);
    expect(lines.length).toBeGreaterThan(1000);
    const theirs = await readFile(join(home, 'modules.dep.bin'));
    expect(moduleIndex(lines).equals(theirs)).toBe(true);
  });

  it('of nothing is depmod’s, too', async () => {
    const [root, release] = [await freshDirectory('empty'), '6.1.0'];
    await mustRun('mkdir', ['-p', join(root, 'lib/modules', release)]);
    await mustRun('depmod', ['-b', root, release]);
    const theirs = await readFile(join(root, 'lib/modules', release, 'modules.dep.bin'));
    expect(moduleIndex([]).equals(theirs)).toBe(true);
  });

  it.each(['nothing', ' of it', 'a name\nof another', 'ä b'])('has no line %j', (line) => {
    expect(() => moduleIndex([line])).toThrow(/no index can have the line/);
  });
});
