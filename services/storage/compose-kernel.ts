import { Readable } from 'node:stream';
import { constants, createZstdCompress } from 'node:zlib';
import { pack, type Pack } from 'tar-stream';
import { DEFAULT_TARBALL_LIMITS } from '../core/tree/tarball-rules.ts';
import type { Digest } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import type { TreeOrigin } from '../core/jobs/jobs.ts';
import { DELTA_FILE, KernelDelta, takenFromBase } from '../core/kernel/kernel-delta.ts';
import { movedPath, type TreeEntry } from '../core/tree/tree.ts';
import type { Blobs } from './blobs.ts';
import { readTarball } from './read-tarball.ts';

const DELTA_LIMIT = 16 * 1024 ** 2;
/** Of one file of headers: a `vmlinux` has some MiB. */
const FILE_LIMIT = 256 * 1024 ** 2;

/**
 * Makes the whole tarball of a kernel's tree out of a delta and the kernel it is based on, which goes to `store`; its digest.
 * Throws `KilnError('bad-tarball' | 'too-large')` where the delta is malformed or makes too much.
 */
export const composeKernel = async (
  blobs: Pick<Blobs, 'open'>,
  delta: Digest,
  base: TreeOrigin & { readonly entries: readonly TreeEntry[] },
  store: (tarball: Readable) => Promise<{ readonly digest: Digest }>,
): Promise<Digest> => {
  const plan = await readPlan(await blobs.open(delta));
  const places = new Map<string, TreeEntry[]>();
  for (const { from, entry } of takenFromBase(plan, base.entries)) {
    const targets = places.get(from);
    if (targets === undefined) places.set(from, [entry]);
    else targets.push(entry);
  }

  const tar = pack();
  const compressed = tar.pipe(
    createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: 3 } }),
  );
  const storing = store(compressed);
  let failure: unknown;
  storing.catch((error: unknown) => {
    failure ??= error;
    tar.destroy();
  });
  let made = 0;
  const add = async (entry: TreeEntry, bytes: Buffer): Promise<void> => {
    made += bytes.length;
    if (made > DEFAULT_TARBALL_LIMITS.bytes)
      throw new KilnError(
        'too-large',
        `the delta makes over ${DEFAULT_TARBALL_LIMITS.bytes} bytes, the limit of this service; send only what the build needs`,
      );
    await addEntry(tar, entry, bytes);
  };
  try {
    await readTarball(await blobs.open(base.blob), async (entry, body) => {
      const path = movedPath(entry.path, base.layout);
      const targets = path === null ? [] : (places.get(path) ?? []);
      if (targets.length === 0) return;
      if (entry.kind === 'hardlink')
        throw new KilnError(
          'conflict',
          'the kernel that the delta is based on has hard links; send these headers whole',
        );
      const bytes = await wholeFile(body, FILE_LIMIT);
      for (const target of targets) await add(target, bytes);
    });
    await readTarball(await blobs.open(delta), async (entry, body) => {
      if (entry.path === DELTA_FILE || entry.kind === 'directory') return;
      if (entry.kind === 'hardlink')
        throw new KilnError('bad-tarball', 'the delta has a hard link; send the headers whole');
      const bytes = await wholeFile(body, FILE_LIMIT);
      await add(entry.kind === 'file' ? { ...entry, digest: delta } : entry, bytes);
    });
    tar.finalize();
  } catch (error) {
    tar.destroy();
    await storing.catch(() => {});
    // The error that ended the storing also ended the packing, and is the one to report.
    throw failure instanceof KilnError ? failure : error;
  }
  return (await storing).digest;
};

const readPlan = async (tarball: Readable): Promise<KernelDelta> => {
  const found: Buffer[] = [];
  await readTarball(tarball, async (entry, body) => {
    if (entry.path === DELTA_FILE && entry.kind === 'file')
      found.push(await wholeFile(body, DELTA_LIMIT));
  });
  try {
    return KernelDelta.parse(JSON.parse(Buffer.concat(found).toString('utf8')));
  } catch (cause) {
    throw new KilnError(
      'bad-tarball',
      `the delta’s ${DELTA_FILE} is missing or malformed; send the headers whole`,
      { cause },
    );
  }
};

const wholeFile = async (body: AsyncIterable<Buffer>, limit: number): Promise<Buffer> => {
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of body) {
    size += piece.length;
    if (size > limit)
      throw new KilnError('too-large', `a file of the headers is over ${limit} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
};

const addEntry = (tar: Pack, entry: TreeEntry, bytes: Buffer): Promise<void> =>
  new Promise((resolve, reject) => {
    const done = (error?: Error | null): void => (error ? reject(error) : resolve());
    if (entry.kind === 'symlink')
      tar.entry({ name: entry.path, type: 'symlink', linkname: entry.target }, done);
    else tar.entry({ name: entry.path, mode: entry.executable ? 0o755 : 0o644 }, bytes, done);
  });
