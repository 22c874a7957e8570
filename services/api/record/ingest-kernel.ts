import { transact } from '../../storage/database.ts';
import { Readable } from 'node:stream';
import type { Digest } from '../../core/digest.ts';
import { KilnError } from '../../core/errors.ts';
import { SYMVERS_LIMIT } from '../../core/module/kabi.ts';
import { inspectKernel, isKernelEvidence } from '../../core/kernel/kernel.ts';
import { manifestOf } from '../../core/kernel/kernel-delta.ts';
import { trustReaches } from '../../core/policy/policy.ts';
import { layTree, type TreeEntry } from '../../core/tree/tree.ts';
import { composeKernel } from '../../storage/compose-kernel.ts';
import { readTarball } from '../../storage/read-tarball.ts';
import { scanTarball } from '../../storage/scan-tarball.ts';
import { toJson } from '../../storage/json-text.ts';
import { raisedBy, type Voucher } from './ingest.ts';
import { kernelOf, type StoredKernel } from './records.ts';
import { mayReadTree, notePusher, type Reader } from './readers.ts';
import { storeUpload, useUpload, type UploadDeps } from './uploads.ts';

/** Records the kernel in a blob of headers, if it is the one `announced`. An admin's push approves it. A refused blob is not kept. */
export const ingestKernel = async (
  deps: UploadDeps,
  blob: Digest,
  by: Voucher,
  announced?: Digest,
): Promise<StoredKernel> =>
  useUpload(deps, blob, by, async () => {
    const there = await deps.db
      .selectFrom('kernels')
      .selectAll()
      .where('blob', '=', blob)
      .executeTakeFirst();
    // The same bytes are the same kernel, so they need not be read again.
    if (there !== undefined && trustReaches(there.trust, by.trust)) {
      mustBeAnnounced(there.digest, announced);
      await notePusher(deps.db, there.digest, by.token);
      return kernelOf(there);
    }
    const scanned = await scanTarball(await deps.blobs.open(blob), isKernelEvidence);
    const { kernel, layout } = inspectKernel(scanned);
    mustBeAnnounced(kernel.digest, announced);
    const row = {
      digest: kernel.digest,
      release: kernel.release,
      arch: kernel.arch,
      record: toJson(kernel),
      blob,
      layout: toJson(layout),
      trust: by.trust,
      made_by: by.token,
      created_at: deps.now(),
    };
    await deps.db
      .insertInto('kernels')
      .values(row)
      .onConflict((conflict) => conflict.doNothing())
      .execute();
    return confirmKernel(deps, kernel.digest, by);
  });

/** Throws `digest-mismatch` where headers make another kernel than was announced. */
const mustBeAnnounced = (made: string, announced: Digest | undefined): void => {
  if (announced === undefined || announced === made) return;
  throw new KilnError(
    'digest-mismatch',
    `the headers sent make kernel ${made}, not the announced ${announced}; send them whole`,
  );
};

/** Raises the trust in a kernel that the voucher may read to what it vouches for. Throws `not-found`. */
export const confirmKernelFor = async (
  deps: Pick<UploadDeps, 'db'>,
  digest: Digest,
  by: Voucher,
): Promise<StoredKernel> => {
  await findKernelFor(deps, by, digest);
  return confirmKernel(deps, digest, by);
};

const confirmKernel = async (
  { db }: Pick<UploadDeps, 'db'>,
  digest: Digest,
  by: Voucher,
): Promise<StoredKernel> =>
  transact(db, async (transaction) => {
    const row = await transaction
      .selectFrom('kernels')
      .selectAll()
      .where('digest', '=', digest)
      .executeTakeFirst();
    if (row === undefined) throw noKernel(digest);
    const vouched = raisedBy(row, by);
    await notePusher(transaction, digest, by.token);
    await transaction.updateTable('kernels').set(vouched).where('digest', '=', digest).execute();
    return kernelOf({ ...row, ...vouched });
  });

/** One composition at a time: each holds files of headers in memory. */
let composing: Promise<unknown> = Promise.resolve();

/**
 * Records the kernel that a delta makes of another one that is vouched for, if it is the one announced. The delta is not kept.
 * Throws `conflict` where that base cannot be used: then the headers are to be sent whole.
 */
export const ingestKernelDelta = async (
  deps: UploadDeps & { readonly blobLimit: number },
  { delta, base, makes }: { readonly delta: Digest; readonly base: Digest; readonly makes: Digest },
  by: Voucher,
): Promise<StoredKernel> =>
  useUpload(deps, delta, by, async () => {
    const { blob, layout, trust: baseTrust } = await findKernelFor(deps, by, base);
    if (!trustReaches(baseTrust, 'archive'))
      throw new KilnError(
        'conflict',
        `the delta is based on kernel ${base}, which nobody vouches for; send these headers whole`,
      );
    const entries = await kernelEntries(deps, base);
    const turn = composing.then(() =>
      composeKernel(deps.blobs, delta, { blob, layout, entries }, (bytes) =>
        storeUpload(deps, bytes, { limit: deps.blobLimit }, by),
      ),
    );
    composing = turn.catch(() => {});
    return ingestKernel(deps, await turn, by, makes);
  });

/** A known kernel, if it is for a reader. Throws `not-found`. */
export const findKernelFor = async (
  { db }: Pick<UploadDeps, 'db'>,
  reader: Reader,
  digest: Digest,
): Promise<StoredKernel> => {
  const found = await findKernel({ db }, digest);
  if (await mayReadTree(db, reader, found)) return found;
  throw noKernel(digest);
};

/** A known kernel. Throws `not-found`. */
export const findKernel = async (
  { db }: Pick<UploadDeps, 'db'>,
  digest: Digest,
): Promise<StoredKernel> => {
  const row = await db
    .selectFrom('kernels')
    .selectAll()
    .where('digest', '=', digest)
    .executeTakeFirst();
  if (row === undefined) throw noKernel(digest);
  return kernelOf(row);
};

const noKernel = (digest: Digest): KilnError =>
  new KilnError('not-found', `there is no kernel ${digest}; push its headers first`);

const kernelEntries = async (
  deps: Pick<UploadDeps, 'db' | 'blobs'>,
  digest: Digest,
): Promise<readonly TreeEntry[]> => {
  const { blob, layout } = await findKernel(deps, digest);
  const scanned = await scanTarball(await deps.blobs.open(blob), () => false);
  return layTree(scanned.entries, layout).entries;
};

/** The list of a kernel's files, against which a client makes a delta. */
export const kernelFiles = async (
  deps: Pick<UploadDeps, 'db' | 'blobs'>,
  digest: Digest,
): Promise<string> => manifestOf(await kernelEntries(deps, digest));

/** A kernel's `Module.symvers`, taken out of its headers when first asked for; `null` where they have none. */
export const kernelSymvers = async (
  deps: Pick<UploadDeps, 'db' | 'blobs'>,
  digest: Digest,
): Promise<Buffer | null> => {
  const { blob, symversDigest } = await findKernel(deps, digest);
  if (symversDigest === null) return null;
  if ((await deps.blobs.find(symversDigest)) === null) {
    await readTarball(await deps.blobs.open(blob), async (entry, body) => {
      if (entry.kind !== 'file' || !entry.path.endsWith('Module.symvers')) return;
      const bytes = Readable.from(body, { objectMode: false });
      await deps.blobs
        .put(bytes, { limit: SYMVERS_LIMIT, expected: symversDigest })
        .catch(ofOthers);
    });
  }
  return deps.blobs.read(symversDigest, SYMVERS_LIMIT);
};

/** Passes over the other files of that name: a tree may hold more than one `Module.symvers`. */
const ofOthers = (error: unknown): void => {
  if (!(error instanceof KilnError) || error.code !== 'digest-mismatch') throw error;
};
