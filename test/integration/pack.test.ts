import { chmod, symlink, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';
import { packPaths } from '../../client/ask/pack.ts';
import { writeTree } from '../machine/make-source.ts';

describe('packing a tree', () => {
  const digestAndGone = async (directory: string): Promise<string> => {
    const packed = await packPaths([directory], new AbortController().signal);
    await packed.dispose();
    return packed.digest;
  };
  const tree = async (): Promise<string> => {
    const directory = await writeTree('packed', {
      'src/a.c': 'int a;\n',
      configure: '#!/bin/sh\n',
    });
    await chmod(join(directory, 'configure'), 0o755);
    await symlink('src/a.c', join(directory, 'link.c'));
    return directory;
  };

  it('gives the same bytes in another second, of a copy of another time and umask', async () => {
    const [one, copy] = [await tree(), await tree()];
    const first = await digestAndGone(one);
    await utimes(join(copy, 'src/a.c'), 1, 1);
    await chmod(join(copy, 'src/a.c'), 0o600);
    await chmod(join(copy, 'configure'), 0o700);
    await sleep(1100);
    expect(await digestAndGone(copy)).toBe(first);
  });

  it('gives other bytes for a file that may be executed', async () => {
    const [one, other] = [await tree(), await tree()];
    await chmod(join(other, 'configure'), 0o644);
    expect(await digestAndGone(other)).not.toBe(await digestAndGone(one));
  });
});
