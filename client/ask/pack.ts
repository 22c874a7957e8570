import { createReadStream, createWriteStream } from 'node:fs';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { constants, createZstdCompress } from 'node:zlib';
import { pack, type Pack } from 'tar-stream';
import type { Digest } from '../../services/core/digest.ts';
import { hasErrno, KilnError } from '../../services/core/errors.ts';
import { hashFile, walk, type LocalEntry } from './tree.ts';

/** A tarball that is ready to be sent, and the function that removes it afterwards. */
export interface Packed {
  readonly file: string;
  readonly digest: Digest;
  dispose(): Promise<void>;
}

/** Directories become a zstd tarball in a temporary file; one file is taken as it is, several (packages) go into one tarball. */
export const packPaths = async (paths: readonly string[], signal: AbortSignal): Promise<Packed> => {
  const kinds = await Promise.all(
    paths.map(async (path) =>
      stat(path).catch((cause: unknown) => {
        throw new KilnError('bad-request', `${path} cannot be read`, { cause });
      }),
    ),
  );
  const [only = '', ...others] = paths;
  if (others.length === 0 && kinds[0]?.isDirectory() === true)
    return packEntries(await collect(walk(only)), signal);
  if (kinds.some((kind) => kind.isDirectory()))
    throw new KilnError('bad-request', 'give one directory, or one or more tarballs or packages');
  if (others.length === 0)
    return { file: only, digest: await hashFile(only, signal), dispose: async () => {} };
  return packEntries(
    paths.map((place, index) => ({
      kind: 'file',
      place,
      path: basename(place),
      size: kinds[index]?.size ?? 0,
      mode: 0o644,
    })),
    signal,
  );
};

/** The entries of a walk, as a list. */
export const collect = async (
  walked: AsyncIterable<LocalEntry>,
): Promise<readonly LocalEntry[]> => {
  const all: LocalEntry[] = [];
  for await (const entry of walked) all.push(entry);
  return all;
};

/** Times and owners are no part of a tree: the same tree packs to the same bytes, on any day, so that they are sent once. */
const NO_TIME = new Date(0);

/** Packs entries, and texts of our own, into a tarball in a temporary file, of zstd where no other compressor is given. */
export const packEntries = async (
  entries: readonly LocalEntry[],
  signal: AbortSignal,
  texts: Readonly<Record<string, string>> = {},
  compressor: NodeJS.ReadWriteStream = createZstdCompress({
    params: { [constants.ZSTD_c_compressionLevel]: 3 },
  }),
): Promise<Packed> => {
  const directory = await mkdtemp(join(tmpdir(), 'kiln-'));
  const dispose = (): Promise<void> => rm(directory, { recursive: true, force: true });
  const file = join(directory, 'tree.tar');
  try {
    const tar = pack();
    const writing = pipeline(tar, compressor, createWriteStream(file, { mode: 0o600 }), { signal });
    writing.catch(() => {});
    for (const [name, text] of Object.entries(texts)) tar.entry({ name, mtime: NO_TIME }, text);
    for (const entry of entries) await add(tar, entry);
    tar.finalize();
    await writing;
    return { file, digest: await hashFile(file, signal), dispose };
  } catch (error) {
    await dispose();
    if (hasErrno(error, 'ENOSPC'))
      throw new KilnError('install-failed', `there is no room for the tarball in ${tmpdir()}`, {
        cause: error,
      });
    throw error;
  }
};

const add = async (tar: Pack, entry: LocalEntry): Promise<void> => {
  if (entry.kind === 'symlink') {
    tar.entry({ name: entry.path, type: 'symlink', linkname: entry.target, mtime: NO_TIME });
    return;
  }
  const mode = (entry.mode & 0o111) === 0 ? 0o644 : 0o755;
  const into = tar.entry({ name: entry.path, size: entry.size, mode, mtime: NO_TIME });
  await pipeline(createReadStream(entry.place), into as unknown as NodeJS.WritableStream);
};
