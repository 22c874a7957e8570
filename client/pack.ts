import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { lstat, mkdtemp, readdir, readlink, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { constants, createZstdCompress } from 'node:zlib';
import { pack, type Pack } from 'tar-stream';
import { toDigest, type Digest } from '../services/core/digest.ts';
import { hasErrno, KilnError } from '../services/core/errors.ts';

/** An archive ready to be sent, and what is to be called when it is not needed any more. */
export interface Packed {
  readonly file: string;
  readonly digest: Digest;
  dispose(): Promise<void>;
}

/** A directory becomes a zstd tarball in a temporary file; a file is taken as it is. */
export const packPath = async (path: string, signal: AbortSignal): Promise<Packed> => {
  const stats = await stat(path).catch((cause: unknown) => {
    throw new KilnError('bad-request', `${path} cannot be read`, { cause });
  });
  if (!stats.isDirectory())
    return { file: path, digest: await hashFile(path, signal), dispose: async () => {} };
  const directory = await mkdtemp(join(tmpdir(), 'kiln-'));
  const dispose = (): Promise<void> => rm(directory, { recursive: true, force: true });
  const file = join(directory, 'tree.tar.zst');
  try {
    const tar = pack();
    const writing = pipeline(
      tar,
      createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: 3 } }),
      createWriteStream(file, { mode: 0o600 }),
      { signal },
    );
    writing.catch(() => {});
    await addDirectory(tar, path, '');
    tar.finalize();
    await writing;
    return { file, digest: await hashFile(file, signal), dispose };
  } catch (error) {
    await dispose();
    if (hasErrno(error, 'ENOSPC'))
      throw new KilnError('install-failed', `there is no room for the archive in ${tmpdir()}`, {
        cause: error,
      });
    throw error;
  }
};

/** What never belongs to a module's source or a kernel's headers. */
const LEFT_OUT = new Set(['.git', '.hg', '.svn']);

const addDirectory = async (tar: Pack, base: string, path: string): Promise<void> => {
  const names = (await readdir(join(base, path))).filter((name) => !LEFT_OUT.has(name)).sort();
  for (const name of names) {
    const below = path === '' ? name : `${path}/${name}`;
    const place = join(base, below);
    const stats = await lstat(place);
    if (stats.isDirectory()) await addDirectory(tar, base, below);
    else if (stats.isSymbolicLink())
      tar.entry({ name: below, type: 'symlink', linkname: await readlink(place) });
    else if (stats.isFile()) await addFile(tar, place, below, stats.size, stats.mode);
    else
      throw new KilnError(
        'bad-source',
        `${place} is neither a file, a directory nor a link; leave it out`,
      );
  }
};

const addFile = async (
  tar: Pack,
  place: string,
  name: string,
  size: number,
  mode: number,
): Promise<void> => {
  const entry = tar.entry({ name, size, mode: mode & 0o777 });
  await pipeline(createReadStream(place), entry as unknown as NodeJS.WritableStream);
};

const hashFile = async (file: string, signal: AbortSignal): Promise<Digest> => {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file, { highWaterMark: 1024 * 1024 }), hash, { signal });
  return toDigest(hash.digest('hex'));
};
