import { isUtf8 } from 'node:buffer';
import { Readable } from 'node:stream';
import type { Digest } from '../../core/digest.ts';
import { KilnError } from '../../core/errors.ts';
import { firmwarePath, hostFileLimit } from '../../core/source/host-files.ts';
import type { InspectedSource } from '../../core/source/source.ts';
import { movedPath, type ScannedTree } from '../../core/tree/tree.ts';
import type { TarballLimits } from '../../core/tree/tarball-rules.ts';
import { readTarball } from '../../storage/read-tarball.ts';
import type { Reader } from './readers.ts';
import { dropUpload, storeUpload, type UploadDeps } from './uploads.ts';

/** A source, with all of the tarball that it was found in. */
type Found = ScannedTree & Pick<InspectedSource, 'source' | 'layout'>;

/**
 * Stores the files for hosts of a source that was found in a blob, each as a blob of its own, and keeps them until `use` has made a record
 * that names them. Throws `too-large` where one is over its limit, `bad-source` for settings that are no text.
 */
export const withHostFiles = async <T>(
  deps: UploadDeps,
  blob: Digest,
  by: Reader,
  found: Found & { readonly limits: TarballLimits },
  use: () => Promise<T>,
): Promise<T> => {
  if (Object.keys(found.source.files).length === 0) return use();
  const stored: Digest[] = [];
  try {
    await readTarball(
      await deps.blobs.open(blob),
      async ({ kind, path }, body) => {
        const places = kind === 'file' ? placesOf(found, path) : [];
        const bytes = places.length === 0 ? null : await readFor(places, path, body);
        if (bytes === null) for await (const _ of body) continue;
        else stored.push((await store(deps, bytes, by)).digest);
      },
      found.limits,
    );
    return await use();
  } finally {
    for (const digest of stored) await dropUpload(deps, digest, by);
  }
};

/** The places that have the bytes of a tarball's file: the same bytes may stand there under several names. */
const placesOf = ({ entries, source, layout }: Found, path: string): readonly string[] => {
  const entry = entries.find((each) => each.path === path);
  if (entry?.kind !== 'file' || movedPath(path, layout) === null) return [];
  return Object.entries(source.files).flatMap(([place, digest]) =>
    digest === entry.digest ? [place] : [],
  );
};

const readFor = async (
  places: readonly string[],
  path: string,
  body: AsyncIterable<Buffer>,
): Promise<Buffer> => {
  const limit = Math.min(...places.map(hostFileLimit));
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of body) {
    size += piece.length;
    if (size > limit)
      throw new KilnError(
        'too-large',
        `${path} is over ${limit} bytes, the most that a file for ${places.join(', ')} may have`,
      );
    pieces.push(piece);
  }
  const bytes = Buffer.concat(pieces);
  if (places.some((place) => firmwarePath(place) === null) && (!isUtf8(bytes) || bytes.includes(0)))
    throw new KilnError(
      'bad-source',
      `${path} is no text in UTF-8, which a file for ${places.join(', ')} must be`,
    );
  return bytes;
};

const store = (deps: UploadDeps, bytes: Buffer, by: Reader): Promise<{ readonly digest: Digest }> =>
  storeUpload(deps, Readable.from([bytes], { objectMode: false }), { limit: bytes.length }, by);
