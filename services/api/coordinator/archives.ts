import { join } from 'node:path';
import { headersByRelease, type KernelArchive } from '../../core/kernel/archive.ts';
import { openApt, type Apt } from '../../storage/apt.ts';
import type { Database } from '../../storage/database.ts';

/** An archive that is followed, and the tool that reads it. */
export interface FollowedArchive extends KernelArchive {
  readonly apt: Apt;
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
  readonly apt: Promise<Apt>;
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

  const open = async (archive: KernelArchive): Promise<FollowedArchive> => {
    const { name, sources, headers } = archive;
    const description = `${headers}\n${sources}`;
    const known = memories.get(name);
    const memory: Memory =
      known?.description === description
        ? known
        : {
            description,
            apt: openApt(join(directory, name), sources),
            updatedAt: null,
            headers: null,
          };
    memories.set(name, memory);
    const apt = await memory.apt.catch((error: unknown) => {
      memories.delete(name);
      throw error;
    });
    return {
      ...archive,
      apt,
      async update() {
        try {
          await apt.update();
        } finally {
          memory.updatedAt = now();
          memory.headers = null;
        }
      },
      updatedAt: () => memory.updatedAt,
      headerPackages() {
        const reading =
          memory.headers ?? apt.names('').then((all) => headersByRelease(archive, all));
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
        rows.map(({ builds_ahead, ...row }) => open({ ...row, buildsAhead: builds_ahead === 1 })),
      );
    },
  };
};
