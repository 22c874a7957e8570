import { join } from 'node:path';
import { headersByRelease, type KernelArchive } from '../../core/kernel/archive.ts';
import type { Database } from '../../storage/database.ts';
import { openArchive } from '../../storage/open-archive.ts';
import type { PackageArchive } from '../../storage/package-archive.ts';

/** An archive that is followed, and what is in it. */
export interface FollowedArchive extends KernelArchive {
  readonly packages: PackageArchive;
  /** Fetches its metadata. Throws `unverified` or `unavailable`. */
  update(): Promise<void>;
  /** When its metadata was last fetched, or could not be, in milliseconds since 1970; `null` for not since the service began. */
  updatedAt(): number | null;
  /** Its packages with headers, by release, as its metadata was fetched last. */
  headerPackages(): Promise<ReadonlyMap<string, string>>;
}

/** The archives that are followed. */
export interface Archives {
  list(): Promise<readonly FollowedArchive[]>;
}

/** What is remembered of an archive for as long as its description stays. */
interface Memory {
  readonly description: string;
  readonly packages: Promise<PackageArchive>;
  updatedAt: number | null;
  headers: Promise<ReadonlyMap<string, string>> | null;
}

/** Opens the archives of the record. `directory`: where their tools keep what they know of them. */
export const createArchives = ({
  db,
  directory,
  now,
}: {
  readonly db: Database;
  readonly directory: string;
  readonly now: () => number;
}): Archives => {
  const memories = new Map<string, Memory>();

  /** What was believed once is the least that is believed from now on, until an admin describes the archive anew. */
  const noteNewest = async (
    { name, sources }: KernelArchive,
    newest: number | null,
  ): Promise<void> => {
    await db
      .updateTable('archives')
      .set({ newest })
      .where('name', '=', name)
      .where('sources', '=', sources)
      .execute();
  };

  const open = async (archive: KernelArchive, newest: number | null): Promise<FollowedArchive> => {
    const { name, kind, sources, headers } = archive;
    const description = `${kind}\n${headers}\n${sources}`;
    const known = memories.get(name);
    const memory: Memory =
      known?.description === description
        ? known
        : {
            description,
            packages: openArchive(join(directory, name), archive, now),
            updatedAt: null,
            headers: null,
          };
    memories.set(name, memory);
    const packages = await memory.packages.catch((error: unknown) => {
      memories.delete(name);
      throw error;
    });
    return {
      ...archive,
      packages,
      async update() {
        try {
          await noteNewest(archive, await packages.update(newest));
        } finally {
          memory.updatedAt = now();
          memory.headers = null;
        }
      },
      updatedAt: () => memory.updatedAt,
      headerPackages() {
        const reading =
          memory.headers ?? packages.names().then((all) => headersByRelease(archive, all));
        memory.headers = reading;
        reading.catch(() => {
          memory.headers = null;
        });
        return reading;
      },
    };
  };

  return {
    async list() {
      const rows = await db.selectFrom('archives').selectAll().orderBy('name').execute();
      return Promise.all(
        rows.map(({ builds_ahead, newest, ...row }) =>
          open({ ...row, buildsAhead: builds_ahead === 1 }, newest),
        ),
      );
    },
  };
};
