import { describe, expect, it } from '@jest/globals';
import { BUNDLE_INDEX, bundleSupply } from '../../client/install/bundle.ts';
import { writeTar } from '../machine/make-source.ts';
import { debianKernel } from '../unit/samples.ts';
import { built } from './built.ts';

const { release } = debianKernel;

describe('a bundle with two versions of a source', () => {
  it('gives the one that is named, and asks for a name where none is', async () => {
    const builds = ['1.0', '2.0'].map((version) => built(version).build);
    const index = { format: 1, server: 'x', builds, withdrawals: [] };
    const file = await writeTar('two', [{ name: BUNDLE_INDEX, text: JSON.stringify(index) }]);
    const supply = await bundleSupply(file);
    const ask = (version?: string) =>
      supply.build({
        source: { name: 'hello', ...(version === undefined ? {} : { version }) },
        kernel: { release },
      });
    expect((await ask('2.0')).build.source.version).toBe('2.0');
    await expect(ask()).rejects.toThrow(
      /has hello\/1\.0 for .*, hello\/2\.0 for .*; name one, as in kiln install hello\/1\.0/,
    );
  });
});
