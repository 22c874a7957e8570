import { mkdir, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { hexOf, isDigest, toDigest, type Digest } from '../../services/core/digest.ts';
import { hasErrno, KilnError } from '../../services/core/errors.ts';
import type { ToolchainView } from '../../services/core/protocol/toolchain.ts';
import {
  formatLock,
  parseLock,
  ToolchainDescription,
  type LockedPackage,
  type ToolchainPackages,
} from '../../services/core/toolchain/toolchain-packages.ts';
import { writeWhole } from '../transaction/whole-file.ts';
import type { AskDeps } from './ask-deps.ts';
import { hashFile } from './tree.ts';

/** Directories that `images/make-toolchain` writes (--keep) and reads: a description, a lock, the packages, and the digest of the result. */

/** The content of such a directory, each package's file by its digest. */
export interface Kept {
  readonly description: ToolchainDescription;
  readonly packages: readonly LockedPackage[];
  readonly files: ReadonlyMap<Digest, string>;
  /** The digest of the root file system made of the packages. */
  readonly makes: Digest;
}

/** Reads such a directory. Throws `bad-request` unless every package of its lock is there, with the bytes that the lock names. */
export const readKept = async (directory: string, signal: AbortSignal): Promise<Kept> => {
  const read = async (name: string): Promise<string> =>
    readFile(join(directory, name), 'utf8').catch((cause: unknown) => {
      throw new KilnError(
        'bad-request',
        `${directory} has no ${name}; images/make-toolchain --keep ${directory} makes one`,
        { cause },
      );
    });
  const packages = parseLock(await read('packages.lock'));
  const makes = toDigest((await read('rootfs.sha256')).trim());
  const description = parseDescription(await read('toolchain.json'));
  if (description === null || !isDigest(makes))
    throw new KilnError(
      'bad-request',
      `toolchain.json or rootfs.sha256 in ${directory} are not as make-toolchain --keep leaves them`,
    );
  const files = await packagesIn(directory, signal);
  const missing = packages.filter(({ digest }) => !files.has(digest));
  if (missing.length > 0) {
    const names = missing.map(({ name, version }) => `${name}=${version}`).join(' ');
    throw new KilnError(
      'bad-request',
      `${directory} has not all that its packages.lock names: ${names.slice(0, 500)}`,
    );
  }
  return { description, packages, files, makes };
};

const parseDescription = (text: string): ToolchainDescription | null => {
  try {
    return ToolchainDescription.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
};

/** A directory's packages, by the digest of their bytes; none where there is no directory. */
const packagesIn = async (
  directory: string,
  signal: AbortSignal,
): Promise<ReadonlyMap<Digest, string>> => {
  const names = await readdir(directory).catch((error: unknown) => {
    if (hasErrno(error, 'ENOENT')) return [];
    throw new KilnError('bad-request', `${directory} cannot be read`, { cause: error });
  });
  const files = new Map<Digest, string>();
  for (const name of names.filter((each) => each.endsWith('.deb'))) {
    const file = join(directory, name);
    if ((await stat(file)).isFile()) files.set(await hashFile(file, signal), file);
  }
  return files;
};

/** Sends a toolchain's packages to the service, which keeps them. Packages that it has already, say of another toolchain, are not sent. */
export const sendKept = async (
  { service, progress, signal }: AskDeps,
  toolchain: Digest,
  { description, packages, files }: Kept,
): Promise<ToolchainView> => {
  progress.step('sending packages');
  for (const { name, digest } of packages) {
    progress.detail(name);
    if (!(await service.hasBlob(digest)))
      await service.putBlob(digest, files.get(digest) ?? '', signal);
  }
  progress.step('comparing them with the toolchain');
  return service.keepPackages(toolchain, { description, packages: [...packages] });
};

/** Fetches a toolchain's packages into a directory that `images/make-toolchain` reads. Packages that are there already are not fetched. */
export const fetchKept = async (
  { service, progress, signal }: AskDeps,
  toolchain: Digest,
  { description, packages }: ToolchainPackages,
  directory: string,
): Promise<void> => {
  await mkdir(directory, { recursive: true });
  const there = await packagesIn(directory, signal);
  progress.step('fetching packages');
  for (const { name, version, digest } of packages) {
    progress.detail(name);
    if (there.has(digest)) continue;
    const file = `${name}_${version}.deb`.replaceAll(':', '%3a');
    await writeWhole(join(directory, file), await service.keptPackage(toolchain, digest));
  }
  const texts = {
    'toolchain.json': `${JSON.stringify(description, null, 2)}\n`,
    'packages.lock': formatLock(packages),
    'rootfs.sha256': `${hexOf(toolchain)}\n`,
  };
  for (const [name, text] of Object.entries(texts))
    await writeWhole(join(directory, name), Buffer.from(text));
};
