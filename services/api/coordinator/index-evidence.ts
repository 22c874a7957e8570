import { digestOf } from '../../core/digest.ts';
import { KilnError } from '../../core/errors.ts';
import { indexOf } from '../../core/repository/index-of.ts';
import type { IndexFile, RepositoryContent } from '../../core/repository/repository.ts';
import type { Blobs } from '../../storage/blobs.ts';
import { checkDetached, readInline } from '../../storage/openpgp.ts';

const TOP_LIMIT = 16 * 1024 ** 2;

/**
 * Checks that the signer wrote the index of exactly this content, and signed it with the repositories' key. Throws `KilnError`, saying
 * what differs.
 */
export const checkIndex = async (
  files: readonly IndexFile[],
  content: RepositoryContent,
  { blobs, publicKey }: { readonly blobs: Blobs; readonly publicKey: string },
): Promise<void> => {
  const { lists, top } = indexOf(content);
  const expected = new Map([...lists, [top.path, top.text] as const]);
  const found = new Map(files.map((file) => [file.path, file]));
  for (const [path, text] of expected)
    if (found.get(path)?.digest !== digestOf(text))
      throw new KilnError('unverified', `${path} is not that of what is published`);
  for (const path of found.keys())
    if (!expected.has(path) && path !== top.inline && path !== top.signature)
      throw new KilnError('unverified', `there is a file more, ${path}`);
  for (const { digest } of files) await blobs.check(digest);
  const read = async (path: string): Promise<string> => {
    const file = found.get(path);
    if (file === undefined) throw new KilnError('unverified', `there is no ${path}`);
    return (await blobs.read(file.digest, TOP_LIMIT)).toString('utf8');
  };
  await checkDetached(top.text, await read(top.signature), publicKey);
  if (top.inline === null) return;
  const inline = await readInline(await read(top.inline), publicKey);
  if (inline.trimEnd() !== top.text.trimEnd())
    throw new KilnError('unverified', `${top.inline} holds another text than ${top.path}`);
};
