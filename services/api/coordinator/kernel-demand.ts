import { KilnError } from '../../core/errors.ts';
import { isKernelRelease } from '../../core/kernel/kernel.ts';
import { unlessBusy } from '../../storage/alone.ts';
import type { Database } from '../../storage/database.ts';
import type { Log } from '../../storage/log.ts';
import type { Archives, FollowedArchive } from './archives.ts';
import type { KernelIntake } from './kernel-intake.ts';

/** What becomes of a kernel that somebody asks for and that is not here. */
export type Sought =
  /** It is looked for or fetched: ask again soon. `words` say what is being done. */
  | { readonly kind: 'under way'; readonly words: string }
  /** It cannot be had. `why` says so of the archives; `null` where none is followed. */
  | { readonly kind: 'none'; readonly why: string | null };

/** Fetches kernels that somebody asks for and that are not here from the archives that are followed. */
export interface KernelDemand {
  /** Begins to look for a release, or tells how that stands. Throws `too-many`. `token`: who asks. */
  seek(release: string, token: string): Promise<Sought>;
  /** Forgets what could not be had: other archives are followed now. */
  forget(): void;
  /** Waits until nothing is under way. */
  settled(): Promise<void>;
}

/** The most kernels fetched at once, looked for in all, and those of one token. */
const AT_ONCE = 2;
const MOST = 16;
const MOST_OF_ONE = 4;
/** Milliseconds for which an answer holds, and an archive's metadata counts as new. */
const HOLDS = 5 * 60_000;
/** Answers that are kept at most. */
const MOST_ANSWERS = 1000;
/** Seconds after which a kernel that is fetched is likely to be here. */
const SOON = 10;

interface Search {
  readonly token: string;
  words: string;
  readonly done: Promise<void>;
}

/** Why a kernel could not be had, of which archives, and until when that holds. */
interface Answered {
  readonly until: number;
  readonly why: string;
  readonly of: string;
}

const namesOf = (archives: readonly FollowedArchive[]): string =>
  archives.map(({ name }) => name).join(' ');

export const createKernelDemand = (deps: {
  readonly db: Database;
  readonly archives: Archives;
  readonly intake: KernelIntake;
  readonly now: () => number;
  readonly log: Log;
}): KernelDemand => {
  const { archives, intake, now, log } = deps;
  const searches = new Map<string, Search>();
  const answers = new Map<string, Answered>();
  const inTurn = lanes(AT_ONCE);

  const answer = (release: string, why: string, of: string): void => {
    const [oldest] = answers.keys();
    if (answers.size >= MOST_ANSWERS && oldest !== undefined) answers.delete(oldest);
    answers.delete(release);
    answers.set(release, { until: now() + HOLDS, why, of });
  };

  const isNew = (archive: FollowedArchive): boolean =>
    (archive.updatedAt() ?? -Infinity) > now() - HOLDS;

  /** Takes a release in from the first archive that has it; why that was not possible, in words. */
  const search = async (
    release: string,
    followed: readonly FollowedArchive[],
    step: (words: string) => void,
  ): Promise<string> => {
    const problems = new Map<string, string>();
    // What is known already first: only if no archive is known to have it, all are asked.
    for (const look of [heldBy, updated(isNew)]) {
      for (const archive of followed) {
        try {
          const name = await look(archive, release);
          if (name === undefined) continue;
          await intake.take(archive, name, release, step);
          return `the archive ${archive.name} has no other headers of it`;
        } catch (error) {
          log.warn({ err: error, release, archive: archive.name }, 'kernel on demand');
          const words =
            error instanceof KilnError ? error.message : 'a defect; see the service’s log';
          problems.set(archive.name, `from ${archive.name}: ${words}`);
        }
      }
    }
    return problems.size === 0
      ? 'no archive that is followed has it'
      : `it could not be fetched ${[...problems.values()].join('; ')}`;
  };

  const begin = (release: string, token: string, followed: readonly FollowedArchive[]): Search => {
    const begun: { search: Search | null } = { search: null };
    const done = inTurn(async () => {
      // Where another API fetches it, there is no answer yet.
      const why = await unlessBusy(deps.db, `kernel ${release}`, () =>
        search(release, followed, (words) => {
          if (begun.search !== null) begun.search.words = words;
        }),
      );
      if (why !== null) answer(release, why, namesOf(followed));
    })
      .catch((error: unknown) => log.warn({ err: error, release }, 'kernel on demand'))
      .finally(() => searches.delete(release));
    const words = `looking for kernel ${release} in the archives that are followed`;
    begun.search = { token, words, done };
    searches.set(release, begun.search);
    return begun.search;
  };

  const mustHaveRoom = (token: string): void => {
    const own = [...searches.values()].filter((each) => each.token === token);
    if (searches.size < MOST && own.length < MOST_OF_ONE) return;
    throw new KilnError(
      'too-many',
      `${searches.size} kernels are being fetched from archives, ${own.length} of them for this token; try again when one is here`,
      { retryAfter: SOON },
    );
  };

  return {
    async seek(release, token) {
      if (!isKernelRelease(release)) return { kind: 'none', why: null };
      const followed = await archives.list();
      const known = answers.get(release);
      // Another API may have begun to follow one.
      if (known !== undefined && known.until > now() && known.of === namesOf(followed))
        return { kind: 'none', why: known.why };
      const under = searches.get(release);
      if (under !== undefined) return { kind: 'under way', words: under.words };
      if (followed.length === 0) return { kind: 'none', why: null };
      mustHaveRoom(token);
      return { kind: 'under way', words: begin(release, token, followed).words };
    },
    forget: () => answers.clear(),
    async settled() {
      await Promise.all([...searches.values()].map(({ done }) => done));
    },
  };
};

/** The package with a release's headers in an archive, as far as its metadata is known. */
const heldBy = async (archive: FollowedArchive, release: string): Promise<string | undefined> =>
  (await archive.headerPackages()).get(release);

/** The same once the archive's metadata is fetched, if that was not done just now. */
const updated =
  (isNew: (archive: FollowedArchive) => boolean) =>
  async (archive: FollowedArchive, release: string): Promise<string | undefined> => {
    if (!isNew(archive)) await archive.update();
    return heldBy(archive, release);
  };

/** Runs so many works at once, the others in the order in which they came. */
const lanes = (count: number): ((work: () => Promise<void>) => Promise<void>) => {
  const waiting: (() => void)[] = [];
  let free = count;
  return async (work) => {
    if (free > 0) free -= 1;
    else await new Promise<void>((resolve) => waiting.push(resolve));
    try {
      await work();
    } finally {
      const next = waiting.shift();
      if (next === undefined) free += 1;
      else next();
    }
  };
};
