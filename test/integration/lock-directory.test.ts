import { describe, expect, it } from '@jest/globals';
import { lockDirectory } from '../../services/storage/lock-directory.ts';
import { freshDirectory } from '../machine/make-source.ts';

describe('the lock of a directory', () => {
  it('goes to one of those who begin at the same time, and to the next when that one ends', async () => {
    for (let times = 0; times < 20; times += 1) {
      const directory = await freshDirectory('locked');
      const tries = await Promise.allSettled(
        Array.from({ length: 6 }, () => lockDirectory(directory, 'it is taken')),
      );
      const [unlock, ...others] = tries.flatMap((each) =>
        each.status === 'fulfilled' ? [each.value] : [],
      );
      const refusals = tries.flatMap((each) =>
        each.status === 'rejected' ? [String(each.reason)] : [],
      );
      expect(others).toEqual([]);
      expect(new Set(refusals)).toEqual(new Set(['KilnError: it is taken']));
      await unlock?.();
      await (
        await lockDirectory(directory, 'it is taken')
      )();
    }
  });

  it('goes to one that waits for it as soon as it is free', async () => {
    const directory = await freshDirectory('locked');
    const unlock = await lockDirectory(directory, 'it is taken');
    const next = lockDirectory(directory, 'it is taken', 60);
    await unlock();
    await (
      await next
    )();
  });
});
