import { describe, expect, it } from '@jest/globals';
import { linkFiles, settingsChanges } from '../../client/install/host-files.ts';
import type { Receipt } from '../../client/installed/receipts.ts';
import { digestOf } from '../../services/core/digest.ts';

const RULES = 'lib/udev/rules.d/60-a.rules';

/** What counts of a receipt here. */
const receipt = (release: string, text: string, installedAt: number): Receipt =>
  ({
    release,
    installedAt,
    files: [
      { path: `lib/firmware/updates/${release}/a/b.bin`, digest: digestOf('b'), text: null },
      { path: RULES, digest: digestOf(text), text },
    ],
  }) as unknown as Receipt;

describe('files that a source brings', () => {
  it('are, of firmware, linked to a kernel that the modules are linked to', () => {
    const { files, changes } = linkFiles(receipt('6.1.0-1-amd64', 'text', 1), '6.1.0-2-amd64');
    const path = 'lib/firmware/updates/6.1.0-2-amd64/a/b.bin';
    expect(changes).toEqual([{ path, to: { link: '../../6.1.0-1-amd64/a/b.bin' } }]);
    expect(files.map((file) => file.path)).toEqual([path, RULES]);
  });

  it('are, of settings, what the latest receipt has, and nothing where none is left', () => {
    const [first, second] = [receipt('1', 'first', 1), receipt('2', 'second', 2)];
    const set = (before: readonly Receipt[], after: readonly Receipt[]): unknown =>
      settingsChanges(before, after).map(({ path, to }) => [
        path,
        Buffer.isBuffer(to) ? to.toString() : to,
      ]);
    expect(set([], [first])).toEqual([[RULES, 'first']]);
    expect(set([first], [first, second])).toEqual([[RULES, 'second']]);
    expect(set([first, second], [first])).toEqual([[RULES, 'first']]);
    expect(set([first], [])).toEqual([[RULES, null]]);
    expect(set([first], [first])).toEqual([]);
  });
});
