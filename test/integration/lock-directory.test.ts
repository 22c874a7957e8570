import { describe, expect, it } from '@jest/globals';
import { lockDirectory } from '../../services/machine/lock-directory.ts';
import { freshDirectory } from '../machine/make-source.ts';

describe('the lock of a directory', () => {
  it('goes to one of those who begin at the same time, and to the next when that one ends', async () => {
    for (let times = 0; times < 20; times += 1) {
      const directory = await freshDirectory('locked');
      const tries = await Promise.allSettled(
        Array.from({ length: 6 }, () => lockDirectory(directory)),
      );
      const [unlock, ...others] = tries.flatMap((each) =>
        each.status === 'fulfilled' ? [each.value] : [],
      );
      const refusals = tries.flatMap((each) =>
        each.status === 'rejected' ? [String(each.reason)] : [],
      );
      expect(others).toEqual([]);
      expect(new Set(refusals)).toEqual(
        new Set([`KilnError: another kilnd already runs on ${directory}`]),
      );
      await unlock?.();
      await (
        await lockDirectory(directory)
      )();
    }
  });
});
