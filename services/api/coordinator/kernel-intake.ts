import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { pack } from 'tar-stream';
import { digestOf, type Digest } from '../../core/digest.ts';
import { isHeaderPart } from '../../core/kernel/archive.ts';
import type { ArchivePackage, PackageArchive } from '../../storage/package-archive.ts';
import { ingestKernel } from '../record/ingest-kernel.ts';
import type { Caller } from '../record/tokens.ts';
import { storeUpload, type UploadDeps } from '../record/uploads.ts';
import type { FollowedArchive } from './archives.ts';

/** Who takes in an archive’s kernels, and asks for the builds that a sync begins. */
export const SYNC: Caller = { token: 'kernel-sync', role: 'admin', quotas: null };

/** A kernel that was taken in, now or before. */
export interface TakenKernel {
  readonly digest: Digest;
  readonly isNew: boolean;
}

/** Takes in archives' kernels: each once, whoever asks for it meanwhile. */
export interface KernelIntake {
  /** The kernel whose headers are in a package of an archive. `step` hears what is being done. */
  take(
    archive: FollowedArchive,
    packageName: string,
    release: string,
    step: (text: string) => void,
  ): Promise<TakenKernel>;
}

export const createKernelIntake = (
  deps: UploadDeps & { readonly blobLimit: number },
): KernelIntake => {
  const underWay = new Map<Digest, Promise<TakenKernel>>();

  const findKnown = async (origin: Digest): Promise<TakenKernel | null> => {
    const known = await deps.db
      .selectFrom('archive_kernels')
      .select('kernel')
      .where('origin', '=', origin)
      .executeTakeFirst();
    return known === undefined ? null : { digest: known.kernel, isNew: false };
  };

  const takeNew = async (
    { name: archive, packages: there }: FollowedArchive,
    packages: readonly ArchivePackage[],
    release: string,
    origin: Digest,
  ): Promise<TakenKernel> => {
    const blob = await there.download(packages, (files) => storeTogether(deps, files));
    const { digest } = await ingestKernel(deps, blob, { ...SYNC, trust: 'archive' });
    await deps.db
      .insertInto('archive_kernels')
      .values({ origin, archive, release, kernel: digest, created_at: deps.now() })
      // Another API may have taken it in at the same time.
      .onConflict((conflict) => conflict.doNothing())
      .execute();
    return { digest, isNew: true };
  };

  return {
    async take(archive, packageName, release, step) {
      step(`looking at ${release}`);
      const packages = await withParts(archive.packages, packageName);
      const origin = digestOf(
        packages.map(({ name, version, checksum }) => `${name} ${version} ${checksum}\n`).join(''),
      );
      const known = await findKnown(origin);
      if (known !== null) return known;
      step(`fetching kernel ${release} from ${archive.name}`);
      const taking = underWay.get(origin) ?? takeNew(archive, packages, release, origin);
      underWay.set(origin, taking);
      try {
        return await taking;
      } finally {
        underWay.delete(origin);
      }
    },
  };
};

/** A package with headers, and the others that these stand on. */
const withParts = async (
  there: PackageArchive,
  name: string,
): Promise<readonly ArchivePackage[]> => {
  const first = await there.show(name);
  const parts = first.depends.filter(isHeaderPart);
  return [first, ...(await Promise.all(parts.map((each) => there.show(each))))];
};

const storeTogether = async (
  deps: UploadDeps & { readonly blobLimit: number },
  files: readonly string[],
): Promise<Digest> => {
  const tar = pack();
  const archive = Readable.from(tar, { objectMode: false });
  const storing = storeUpload(deps, archive, { limit: deps.blobLimit }, SYNC);
  storing.catch(() => tar.destroy());
  for (const file of files) {
    const { size } = await stat(file);
    const entry = tar.entry({ name: basename(file), size });
    await pipeline(createReadStream(file), entry as unknown as NodeJS.WritableStream);
  }
  tar.finalize();
  return (await storing).digest;
};
