import { describe, expect, it } from '@jest/globals';
import { knownSources } from '../../client/ask/known-source.ts';
import { digestOf } from '../../services/core/digest.ts';
import type { SourceView } from '../../services/core/protocol/source.ts';
import { sourceDigest } from '../../services/core/source/source.ts';
import { refusal } from './samples.ts';

const here = { name: 'acpi-call', version: '1.2.2', tree: digestOf('tree') };

/** A source as a service tells of it. */
const told = (given: Partial<SourceView> = {}): SourceView => {
  const facts = { ...here, depends: [], needs: ['libelf-dev'], settings: {}, files: {}, ...given };
  return {
    kind: 'dkms',
    autoinstall: true,
    commit: null,
    trust: 'archive',
    madeBy: { id: 'archive:debian-12', name: 'archive:debian-12' },
    withdrawn: null,
    createdAt: 1,
    digest: sourceDigest(facts),
    ...facts,
  };
};

const ask = (...answer: readonly SourceView[]): Promise<readonly SourceView[]> =>
  knownSources({ sourcesLike: async () => answer }, here);

describe('a source that a service says it knows', () => {
  it('is one that somebody vouches for and that was not withdrawn, the most trusted first', async () => {
    const [ofCi, ofAdmin] = [
      told({ trust: 'ci', needs: [] }),
      told({ trust: 'admin', settings: { '/etc/dkms/a.conf': 'a' } }),
    ];
    const ofNobody = told({ trust: 'client', needs: ['a'] });
    const withdrawn = told({ withdrawn: 'the source was withdrawn: bad', needs: ['b'] });
    expect(await ask(ofNobody, ofCi, withdrawn, told(), ofAdmin)).toEqual([ofAdmin, told(), ofCi]);
    expect(await ask()).toEqual([]);
  });

  it.each([
    ['another name', told({ name: 'other' })],
    ['another version', told({ version: '1.3' })],
    ['another tree', told({ tree: digestOf('evil') })],
    ['a digest of another tree', told({ digest: told({ tree: digestOf('evil') }).digest })],
    ['a digest of other needs', told({ digest: told({ needs: [] }).digest })],
  ])('is not believed with %s', async (_, answer) => {
    await expect(ask(told(), answer)).rejects.toEqual(
      refusal('unverified', /was asked for acpi-call\/1\.2\.2 .* and told of another source/),
    );
  });
});
