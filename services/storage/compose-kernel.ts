import type { Readable } from 'node:stream';
import { Readable as Streams } from 'node:stream';
import { constants, createZstdCompress } from 'node:zlib';
import { pack, type Pack } from 'tar-stream';
import type { Digest } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import type { TreeOrigin } from '../core/jobs.ts';
import { DELTA_FILE, KernelDelta, takenFromBase } from '../core/kernel-delta.ts';
import { movedPath, type TreeEntry } from '../core/tree.ts';
import type { Blobs } from './blobs.ts';
import { readArchive } from './read-archive.ts';

const DELTA_LIMIT = 16 * 1024 ** 2;

/**
 * Makes the whole archive of a kernel's tree out of a delta and the kernel it is based on, and stores it; its digest.
 * Throws `KilnError('bad-archive')` where the delta is out of form.
 */
export const composeKernel = async (
  blobs: Blobs,
  delta: Digest,
  base: TreeOrigin & { readonly entries: readonly TreeEntry[] },
  limit: number,
): Promise<Digest> => {
  const plan = await readPlan(await blobs.open(delta));
  const taken = takenFromBase(plan, base.entries);
  const places = new Map<string, TreeEntry[]>();
  for (const { from, entry } of taken) places.set(from, [...(places.get(from) ?? []), entry]);

  const tar = pack();
  const compressed = tar.pipe(
    createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: 3 } }),
  );
  const storing = blobs.put(compressed, { limit });
  storing.catch(() => tar.destroy());
  try {
    await readArchive(await blobs.open(base.blob), async (entry, body) => {
      const path = movedPath(entry.path, base.layout);
      const targets = path === null ? [] : (places.get(path) ?? []);
      if (targets.length === 0) return;
      const bytes = entry.kind === 'file' ? await whole(body) : null;
      for (const target of targets) await add(tar, target, bytes);
    });
    await readArchive(await blobs.open(delta), async (entry, body) => {
      if (entry.path === DELTA_FILE || entry.kind === 'directory') return;
      if (entry.kind === 'hardlink')
        throw new KilnError('bad-archive', 'a delta has no hard links; send it anew');
      const bytes = entry.kind === 'file' ? await whole(body) : null;
      await add(tar, entry.kind === 'file' ? { ...entry, digest: delta } : entry, bytes);
    });
    tar.finalize();
  } catch (error) {
    tar.destroy();
    await storing.catch(() => {});
    throw error;
  }
  return (await storing).digest;
};

const readPlan = async (archive: Readable): Promise<KernelDelta> => {
  const found: Buffer[] = [];
  await readArchive(archive, async (entry, body) => {
    if (entry.path !== DELTA_FILE || entry.kind !== 'file') return;
    const bytes = await whole(body);
    if (bytes.length > DELTA_LIMIT)
      throw new KilnError('too-large', 'the delta’s plan is too long');
    found.push(bytes);
  });
  try {
    return KernelDelta.parse(JSON.parse(Buffer.concat(found).toString('utf8')));
  } catch (cause) {
    throw new KilnError('bad-archive', `the delta has no usable ${DELTA_FILE}`, { cause });
  }
};

const whole = async (body: AsyncIterable<Buffer>): Promise<Buffer> =>
  Buffer.concat(await Streams.from(body).toArray());

const add = (tar: Pack, entry: TreeEntry, bytes: Buffer | null): Promise<void> =>
  new Promise((resolve, reject) => {
    const done = (error?: Error | null): void => (error ? reject(error) : resolve());
    if (entry.kind === 'symlink')
      tar.entry({ name: entry.path, type: 'symlink', linkname: entry.target }, done);
    else
      tar.entry(
        { name: entry.path, mode: entry.executable ? 0o755 : 0o644 },
        bytes ?? Buffer.alloc(0),
        done,
      );
  });
