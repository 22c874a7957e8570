import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { KilnError } from '../core/errors.ts';
import { headerReader, isHeaderPart, type KernelArchive } from '../core/kernel/archive.ts';
import { readRepoFile } from '../core/kernel/repo-file.ts';
import {
  createPackageReader,
  fullName,
  readRepoIndex,
  type AnnouncedFile,
  type AnnouncedPackage,
  type RepoIndex,
  type RpmRequirement,
} from '../core/kernel/rpm-metadata.ts';
import { compareRpmVersions } from '../core/kernel/rpm-version.ts';
import { decompress } from './decompress.ts';
import { fetchFile } from './fetch-file.ts';
import type { ArchivePackage, PackageArchive } from './package-archive.ts';
import { openRpmKeyring, type RpmKeyring } from './rpm-keyring.ts';

const MiB = 1024 ** 2;
const MINUTE = 60_000;
/** What files of each kind may take. Fedora's list of packages has 160 MB, a kernel's headers 25. */
const LIMITS = {
  index: { bytes: MiB, milliseconds: MINUTE },
  list: { bytes: 512 * MiB, milliseconds: 15 * MINUTE },
  package: { bytes: 512 * MiB, milliseconds: 15 * MINUTE },
};
/** Of the list of packages, decompressed. */
const OPEN_LIMIT = 2048 * MiB;
/** How far a repository's clock may go before ours, in seconds. */
const AHEAD = 24 * 3600;

/**
 * Opens an RPM repository with the packages that an archive is followed for, in a directory of its own. Packages are taken only with a
 * signature in them; metadata only with one beside it, unless the archive says that it has none. `now` is in milliseconds.
 */
export const openRpmRepository = async (
  directory: string,
  archive: Pick<KernelArchive, 'sources' | 'headers'>,
  now: () => number,
): Promise<PackageArchive> => {
  const { base, keys, isMetadataSigned } = readRepoFile(archive.sources);
  const isHeaders = headerReader(archive);
  await mkdir(directory, { recursive: true });
  let packages: ReadonlyMap<string, AnnouncedPackage> = new Map();

  /** Does something with a directory that goes afterwards, and the archive's keys. */
  const within = async <T>(use: (place: string, keyring: RpmKeyring) => Promise<T>): Promise<T> => {
    const place = await mkdtemp(join(directory, 'fetched-'));
    try {
      const keyrings = join(place, 'keyring');
      await mkdir(keyrings);
      return await use(place, await openRpmKeyring(keyrings, keys));
    } finally {
      await rm(place, { recursive: true, force: true });
    }
  };
  /** Fetches a file of the repository; whether it was there. */
  const take = (
    location: string,
    path: string,
    limits: (typeof LIMITS)[keyof typeof LIMITS],
    announced: AnnouncedFile | null = null,
  ): Promise<boolean> => {
    const parts = location.split('/').map((part) => encodeURIComponent(part));
    return fetchFile(new URL(`${base}/${parts.join('/')}`), path, limits, announced);
  };

  const readIndex = async (place: string, keyring: RpmKeyring): Promise<RepoIndex> => {
    const file = join(place, 'repomd.xml');
    if (!(await take('repodata/repomd.xml', file, LIMITS.index)))
      throw new KilnError(
        'unavailable',
        `${base}/repodata/repomd.xml is not there; give the baseurl that has repodata in it`,
      );
    if (isMetadataSigned) {
      if (!(await take('repodata/repomd.xml.asc', `${file}.asc`, LIMITS.index)))
        throw new KilnError(
          'unverified',
          `${base}/repodata/repomd.xml.asc is not there; if the distribution signs its packages alone, as Fedora and Enterprise Linux do, say repo_gpgcheck=0 in the .repo file and add the archive again`,
        );
      await keyring.checkFile(file, `${file}.asc`);
    }
    return readRepoIndex(await readFile(file, 'utf8'));
  };

  const readPackages = async (
    place: string,
    { primary: list, openSize }: RepoIndex,
  ): Promise<readonly AnnouncedPackage[]> => {
    const file = join(place, 'primary.xml');
    if (!(await take(list.location, file, LIMITS.list, list)))
      throw new KilnError('unavailable', `${base}/${list.location} is not there; try again later`);
    const reader = createPackageReader(
      (name, full) => isHeaders(full) !== null || isHeaderPart(name),
    );
    const most = Math.min(openSize ?? OPEN_LIMIT, OPEN_LIMIT);
    let size = 0;
    const open = await decompress(createReadStream(file), (bytes) => {
      size += bytes;
      if (size > most)
        throw new KilnError(
          'too-large',
          `the list of packages (primary.xml) has more than ${most} bytes when decompressed, ${openSize === most ? 'which the metadata says' : 'the most that is taken'}`,
        );
    });
    const decoder = new TextDecoder('utf-8', { fatal: true });
    try {
      for await (const piece of open)
        reader.write(decoder.decode(piece as Buffer, { stream: true }));
      reader.write(decoder.decode());
    } catch (cause) {
      if (cause instanceof KilnError && cause.code !== 'bad-tarball') throw cause;
      throw new KilnError(
        'unverified',
        'the list of packages (primary.xml) is no gzip, xz or zstd of UTF-8 text',
        { cause },
      );
    }
    return reader.end();
  };

  const find = (name: string): AnnouncedPackage => {
    const found = packages.get(name);
    if (found !== undefined) return found;
    throw new KilnError('not-found', `the archive has no package ${name}; try again later`);
  };

  const describe = (found: AnnouncedPackage): ArchivePackage => ({
    name: fullName(found),
    version: `${found.epoch}:${found.version}-${found.release}`,
    checksum: found.checksum.hex,
    depends: found.requires.map((each) => namedBy(each, [...packages.values()])),
  });

  return {
    update: (newest) =>
      within(async (place, keyring) => {
        const index = await readIndex(place, keyring);
        checkTime(index.madeAt, newest, now());
        const all = await readPackages(place, index);
        packages = new Map(all.toSorted(compareRpmVersions).map((each) => [fullName(each), each]));
        return index.madeAt;
      }),
    names: () => Promise.resolve([...packages.keys()]),
    show: (name) => Promise.resolve().then(() => describe(find(name))),
    showAll: (names) =>
      Promise.resolve(names.flatMap((name) => packages.get(name) ?? []).map(describe)),
    download: (wanted, use) =>
      within(async (place, keyring) => {
        const files: string[] = [];
        for (const { name } of wanted) {
          const announced = find(name);
          const file = join(place, `${name}.rpm`);
          if (!(await take(announced.location, file, LIMITS.package, announced)))
            throw new KilnError('unavailable', `${base}/${announced.location} is not there`);
          await keyring.checkPackage(file, announced);
          files.push(file);
        }
        return use(files);
      }),
  };
};

/** Throws `unverified` where metadata is older than what was seen before, or of a time to come. */
const checkTime = (madeAt: number, newest: number | null, now: number): void => {
  const [made, before] = [madeAt, newest ?? 0].map((each) => new Date(each * 1000).toISOString());
  if (madeAt > now / 1000 + AHEAD)
    throw new KilnError('unverified', `the metadata says that it is of ${made}, a time to come`);
  if (newest !== null && madeAt < newest)
    throw new KilnError(
      'unverified',
      `the metadata is of ${made}, older than that of ${before} which was seen before: a mirror is behind, or somebody keeps newer packages back; if the archive was set back on purpose, add it again (kiln archive add)`,
    );
};

/** The newest package that a requirement means, by its full name; the requirement's own name where there is none. */
const namedBy = (
  { name, exactly }: RpmRequirement,
  packages: readonly AnnouncedPackage[],
): string => {
  const found = packages.findLast(
    (each) =>
      each.name === name &&
      (exactly === null ||
        compareRpmVersions(each, { ...exactly, release: exactly.release ?? each.release }) === 0),
  );
  return found === undefined ? name : fullName(found);
};
