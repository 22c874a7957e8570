import { digestOf } from '../../core/digest.ts';
import { KilnError } from '../../core/errors.ts';
import { aptIndex } from '../../core/repository/apt-index.ts';
import type { IndexFile, RepositoryContent } from '../../core/repository/repository.ts';
import type { Blobs } from '../../storage/blobs.ts';
import { readInline } from '../../storage/openpgp.ts';

const RELEASE_LIMIT = 16 * 1024 ** 2;

/**
 * Checks that the signer wrote the index of exactly this content, and signed it with the repositories' key. Throws `KilnError`, saying
 * what differs.
 */
export const checkIndex = async (
  files: readonly IndexFile[],
  content: RepositoryContent,
  { blobs, publicKey }: { readonly blobs: Blobs; readonly publicKey: string },
): Promise<void> => {
  const { lists, release } = aptIndex(content);
  const expected = new Map([...lists, ['Release', release] as const]);
  const found = new Map(files.map((file) => [file.path, file]));
  for (const [path, text] of expected)
    if (found.get(path)?.digest !== digestOf(text))
      throw new KilnError('unverified', `${path} is not that of what is published`);
  for (const path of found.keys())
    if (!expected.has(path) && path !== 'InRelease' && path !== 'Release.gpg')
      throw new KilnError('unverified', `there is a file more, ${path}`);
  for (const { digest } of files) await blobs.check(digest);
  const inline = found.get('InRelease');
  if (inline === undefined) throw new KilnError('unverified', 'there is no InRelease');
  const signed = await blobs.read(inline.digest, RELEASE_LIMIT);
  if ((await readInline(signed.toString('utf8'), publicKey)).trimEnd() !== release.trimEnd())
    throw new KilnError('unverified', 'InRelease holds another text than Release');
};
