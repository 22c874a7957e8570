import type { X509Certificate } from 'node:crypto';
import { digestOf } from '../../core/digest.ts';
import { KilnError } from '../../core/errors.ts';
import { KEY_FILE, statedKey } from '../../core/provenance/repository-key.ts';
import { indexOf, ownPool, withOwnPool } from '../../core/repository/index-of.ts';
import type {
  IndexedPackage,
  IndexFile,
  RepositoryContent,
} from '../../core/repository/repository.ts';
import type { Blobs } from '../../storage/blobs.ts';
import { checkDetached, isSameKey, readInline } from '../../storage/openpgp.ts';
import { checkSignedRpm } from '../../storage/rpm-signature.ts';

const TOP_LIMIT = 16 * 1024 ** 2;
/** Bytes that a signature adds to a package, at most. */
const SIGNATURE_LIMIT = 64 * 1024;

interface EvidenceDeps {
  readonly blobs: Blobs;
  /** The armored public key of repositories. */
  readonly publicKey: string;
  /** The certificate of the key that modules are signed with. */
  readonly certificate: X509Certificate;
  /** Signed packages that were found to be what they are to be. */
  readonly checked: Set<string>;
}

/**
 * Checks that the signer wrote the index of exactly this content, and signed it with the repositories' key. Throws `KilnError`, saying
 * what differs.
 */
export const checkIndex = async (
  files: readonly IndexFile[],
  content: RepositoryContent,
  deps: EvidenceDeps,
): Promise<void> => {
  const { blobs, publicKey } = deps;
  const found = new Map(files.map((file) => [file.path, file]));
  if (found.size !== files.length) throw new KilnError('unverified', 'it has a file twice');
  const pool = ownPool(content);
  for (const [path, each] of pool) await checkSigned(found.get(path), each, path, deps);
  const { lists, top } = indexOf(withOwnPool(content, found));
  const expected = new Map([...lists, [top.path, top.text] as const]);
  for (const [path, text] of expected)
    if (found.get(path)?.digest !== digestOf(text))
      throw new KilnError('unverified', `${path} is not that of what is published`);
  for (const path of found.keys())
    if (
      !expected.has(path) &&
      !pool.has(path) &&
      ![top.inline, top.signature, KEY_FILE].includes(path)
    )
      throw new KilnError('unverified', `there is a file more, ${path}`);
  // Those of the pool were read as they were checked.
  for (const { path, digest } of files) if (!pool.has(path)) await blobs.check(digest);
  const read = async (path: string): Promise<string> => {
    const file = found.get(path);
    if (file === undefined) throw new KilnError('unverified', `there is no ${path}`);
    return (await blobs.read(file.digest, TOP_LIMIT)).toString('utf8');
  };
  const stated = statedKey(await read(KEY_FILE), deps.certificate, content.madeAt);
  if (stated.validUntil !== content.validUntil || !(await isSameKey(stated.key, publicKey)))
    throw new KilnError('unverified', `${KEY_FILE} states another key than the repository’s`);
  await checkDetached(top.text, await read(top.signature), publicKey);
  if (top.inline === null) return;
  const inline = await readInline(await read(top.inline), publicKey);
  if (inline.trimEnd() !== top.text.trimEnd())
    throw new KilnError('unverified', `${top.inline} holds another text than ${top.path}`);
};

/** Checks that a file of the index is a package with the key's signature in it. */
const checkSigned = async (
  file: IndexFile | undefined,
  { digest, size }: IndexedPackage,
  path: string,
  { blobs, publicKey, checked }: EvidenceDeps,
): Promise<void> => {
  if (file === undefined) throw new KilnError('unverified', `there is no ${path}`);
  const key = `${digest} ${file.digest} ${file.size}`;
  if (checked.has(key) && (await blobs.find(file.digest)) !== null) return;
  const signed = await blobs.read(file.digest, size + SIGNATURE_LIMIT);
  if (signed.length !== file.size) throw new KilnError('unverified', `${path} has another size`);
  await checkSignedRpm(signed, await blobs.read(digest, size), publicKey);
  checked.add(key);
};
