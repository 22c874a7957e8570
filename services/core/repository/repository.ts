import { z } from 'zod';
import { digest } from '../digest.ts';
import { list } from '../schemas/domain.ts';
import { REPOSITORY_FORMATS } from '../packages/plan.ts';
import { PackageSubject } from '../packages/subject.ts';

/** Repositories of packages: what package managers are given, signed as one. Each is a view of the record, made anew from it at any time. */

/** What comes is tried by few first (`staging`), and then given to all (`stable`). */
export const CHANNELS = ['stable', 'staging'] as const;
export type Channel = (typeof CHANNELS)[number];

/** The suite of packages for kernels that no followed archive has. */
export const OWN_SUITE = 'own';

/** One repository: the packages of one format for the kernels of one distribution. */
export const RepositoryName = z.strictObject({
  format: z.enum(REPOSITORY_FORMATS),
  /** The name of the followed archive that its kernels come from, or `own`. */
  suite: z.string().regex(/^[a-z0-9][a-z0-9.-]{0,63}$/),
  channel: z.enum(CHANNELS),
});
export type RepositoryName = z.infer<typeof RepositoryName>;

/** A repository's name in addresses: `bookworm`, `bookworm-staging`. */
export const suiteName = ({ suite, channel }: Pick<RepositoryName, 'suite' | 'channel'>): string =>
  channel === 'stable' ? suite : `${suite}-${channel}`;

/** The most packages of one repository. */
export const MOST_PACKAGES = 5000;

const size = z
  .number()
  .int()
  .min(0)
  .max(2 ** 40);

/** A package in a repository: what it was made of, and its bytes. */
export const IndexedPackage = z.strictObject({ subject: PackageSubject, digest, size });
export type IndexedPackage = z.infer<typeof IndexedPackage>;

/** The time, in seconds since 1970. */
const seconds = z
  .number()
  .int()
  .min(0)
  .max(2 ** 40);

/** A repository as it is to be signed. */
export const RepositoryContent = z.strictObject({
  ...RepositoryName.shape,
  packages: list(IndexedPackage, MOST_PACKAGES),
  madeAt: seconds,
  /** After this package managers take it for stale: somebody could be holding back what came since. */
  validUntil: seconds,
});
export type RepositoryContent = z.infer<typeof RepositoryContent>;

/** A file of a repository's index, by its path below the repository. */
export const IndexFile = z.strictObject({
  path: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._+~/-]{0,254}$/),
  digest,
  size,
});
export type IndexFile = z.infer<typeof IndexFile>;

/** The folder of a package's file, by which source it is of: the same for all repositories of a format. */
export const poolPath = (source: string, file: string): string =>
  `pool/${source === '' ? 'kiln' : source}/${file}`;
