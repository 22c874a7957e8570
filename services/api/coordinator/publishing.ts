import { canonicalJson } from '../../core/format/canonical-json.ts';
import { digestOf, type Digest } from '../../core/digest.ts';
import { KilnError } from '../../core/errors.ts';
import type { Outcome } from '../../core/jobs/jobs.ts';
import { indexRun } from '../../core/jobs/run-name.ts';
import { flavourOf, kernelPackageVersion } from '../../core/packages/names.ts';
import { compareVersions } from '../../core/source/source-version.ts';
import type { PackageFormat } from '../../core/packages/plan.ts';
import { CHANNELS, type RepositoryName } from '../../core/repository/repository.ts';
import type { Blobs } from '../../storage/blobs.ts';
import { fromJson } from '../../storage/json-text.ts';
import type { CoordinatorDeps } from './coordinator-deps.ts';
import { checkIndex } from './index-evidence.ts';
import { together, usable, withNeeded } from './in-one-repository.ts';
import type { Packing } from './packing.ts';
import { publishedBuilds, type PublishedBuild } from './published.ts';
import { problemOf } from './evidence.ts';
import type { PackageRow } from '../record/packages.ts';
import {
  askIndex,
  findRepository,
  keepIndex,
  noteProblem,
  packagesIn,
  readPublications,
  readRepositories,
  replacePackages,
  type Publication,
  type RepositoryRow,
} from '../record/repositories.ts';

type Of<Kind extends Outcome['kind']> = Extract<Outcome, { kind: Kind }>;

/** Who asks for the packages of what is published. */
const PUBLISHER = 'publisher';
const HOUR = 3_600_000;
/** How long an index is good for, and when it is signed anew where nothing has changed. */
const VALIDITY = 7 * 24 * HOUR;
const RENEWAL = VALIDITY / 2;
/** After so long what failed is tried again. */
const PAUSE = HOUR / 6;

/** Keeps the repositories as the record is: packages are made of what is published, put in their channels, and the signer writes the index. */
export interface Publishing {
  /** Looks at what is published, soon. */
  poke(): void;
  /** Gives what is in `staging` to all: of one source, or of all that are published. Throws `not-found` where there is nothing. */
  promote(source: string | null): Promise<void>;
  /** Takes the signer's outcome in; false if it changes nothing. */
  take(outcome: Of<'indexed' | 'unindexable'>): Promise<boolean>;
  /** Looks for lost jobs, and for indexes that are to be signed anew. */
  sweep(): Promise<void>;
  /** Waits for the look under way to end. */
  settled(): Promise<void>;
}

export interface PublishingDeps extends CoordinatorDeps {
  readonly blobs: Blobs;
  readonly packing: Pick<Packing, 'ofBuild' | 'of'>;
  /** The armored public key of repositories. */
  readonly repositoryKey: string;
}

const nothing = (): undefined => undefined;

/** What is asked for; nothing, with the words, where it cannot be had. */
const orProblem = (
  asked: Promise<readonly PackageRow[]>,
  problem: (words: string) => void,
): Promise<readonly PackageRow[]> =>
  asked.catch((error: unknown) => {
    if (!(error instanceof KilnError)) throw error;
    problem(error.message);
    return [];
  });

/** Packages that are to be in a repository, and the names of those that are, or are being made. */
interface Wanted {
  readonly rows: readonly PackageRow[];
  readonly names: readonly string[];
}
const NOTHING: Wanted = { rows: [], names: [] };

export const createPublishing = (deps: PublishingDeps): Publishing => {
  const { db, now, evidence, packing, log } = deps;
  let isWanted = true;
  let isBegun = false;
  let lookedAt = 0;
  let underWay: Promise<void> = Promise.resolve();

  /** Packages of a publication by suite. Those of a build come when all of them are there. */
  const packagesOf = async (
    { source }: Publication,
    format: PackageFormat,
    problem: (words: string) => void,
  ): Promise<ReadonlyMap<string, Wanted>> => {
    const found = new Map<string, Wanted>();
    const add = (suite: string, rows: readonly PackageRow[]): void => {
      const isWhole = rows.every(({ state }) => state === 'made');
      const before = found.get(suite) ?? NOTHING;
      found.set(suite, {
        rows: [...before.rows, ...(isWhole ? rows : [])],
        names: [...before.names, ...rows.map(({ name }) => name)],
      });
    };
    const made: PublishedBuild[] = [];
    for (const build of await publishedBuilds(db, source, evidence.key)) {
      const rows = await orProblem(packing.ofBuild(build.id, format, PUBLISHER, false), problem);
      for (const { file, problem: words } of rows) if (words !== null) problem(`${file}: ${words}`);
      for (const suite of build.suites) add(suite, rows);
      if (rows.length > 0 && rows.every(({ state }) => state === 'made')) made.push(build);
    }
    for (const suite of new Set(made.flatMap(({ suites }) => suites)))
      for (const newest of newestOfFlavours(made.filter(({ suites }) => suites.includes(suite))))
        add(
          suite,
          await orProblem(
            packing.of(newest, format, PUBLISHER, false).then((row) => [row]),
            problem,
          ),
        );
    return found;
  };

  /** What a channel has next: what is wanted, of each package one version before, to go back to, and what all of these need. */
  const nextOf = async (
    of: RepositoryName,
    wanted: Wanted,
    stays: (row: PackageRow) => boolean,
  ): Promise<readonly string[]> => {
    const ids = new Set(wanted.rows.map(({ id }) => id));
    const names = new Set(wanted.names);
    const left = await usable(
      db,
      (await packagesIn(db, of)).filter(({ id }) => !ids.has(id)),
      evidence.key,
    );
    const kept = left.filter((row) => {
      const isNewest = left.every(
        ({ name, version }) => name !== row.name || compareVersions(version, row.version) <= 0,
      );
      return stays(row) || (names.has(row.name) && isNewest);
    });
    const fresh = await usable(db, wanted.rows, evidence.key);
    return together(withNeeded([...fresh, ...kept], left)).map(({ id }) => id);
  };

  /** Brings what is in the repositories up to the record. */
  const fill = async (): Promise<void> => {
    const publications = await readPublications(db);
    const wanted = new Map<string, { of: Omit<RepositoryName, 'channel'> } & Wanted>();
    const direct = new Set<string>();
    const still = new Set<string>();
    for (const publication of publications) {
      if (publication.isHeld) {
        still.add(publication.source);
        continue;
      }
      if (publication.channel === 'stable') direct.add(publication.source);
      const problems: string[] = [];
      for (const format of publication.formats)
        for (const [suite, more] of await packagesOf(publication, format, (words) =>
          problems.push(words),
        )) {
          const key = `${format} ${suite}`;
          const before = wanted.get(key) ?? NOTHING;
          wanted.set(key, {
            of: { format, suite },
            rows: [...before.rows, ...more.rows],
            names: [...before.names, ...more.names],
          });
        }
      // What is there of it stays until all of it can be told.
      if (problems.length > 0) still.add(publication.source);
      await noteProblem(db, publication.source, problems[0] ?? null);
    }
    for (const { format, suite } of await readRepositories(db))
      if (!wanted.has(`${format} ${suite}`))
        wanted.set(`${format} ${suite}`, { of: { format, suite }, ...NOTHING });
    const known = new Set(publications.map(({ source }) => source));
    for (const { of, rows, names } of wanted.values()) {
      for (const channel of CHANNELS) {
        const isStaged = (source: string): boolean =>
          channel === 'stable' && known.has(source) && source !== '' && !direct.has(source);
        const next = await nextOf(
          { ...of, channel },
          { rows: rows.filter(({ source }) => !isStaged(source)), names },
          ({ source }) => still.has(source) || isStaged(source),
        );
        await db
          .transaction()
          .execute((on) => replacePackages(on, { ...of, channel }, next, now()));
      }
    }
  };

  /** Has the signer write the index of each repository that has changed, or whose index grows old. */
  const index = async (): Promise<void> => {
    const names = await db
      .selectFrom('channel_packages')
      .select(['format', 'suite', 'channel'])
      .distinct()
      .execute();
    const all = new Map<string, RepositoryName>();
    for (const { format, suite, channel } of [...names, ...(await readRepositories(db))])
      all.set(`${format} ${suite} ${channel}`, { format, suite, channel });
    for (const of of all.values()) {
      const packages = await packagesIn(db, of);
      const content = contentDigest(packages);
      const row = await findRepository(db, of);
      const isAsked =
        row?.content === content &&
        row.valid_until - now() > RENEWAL &&
        (row.problem === null || now() - row.made_at < PAUSE);
      if (isAsked) continue;
      const generation = await askIndex(db, of, {
        content,
        madeAt: now(),
        validUntil: now() + VALIDITY,
      });
      await enqueue(of, generation);
    }
  };

  const enqueue = async (of: RepositoryName, generation: number): Promise<void> => {
    const row = await findRepository(db, of);
    if (row?.generation !== generation) return;
    await deps.signer.add(indexRun(of, generation), {
      kind: 'index',
      generation,
      repository: await contentOf(row),
    });
  };

  const contentOf = async ({ format, suite, channel, made_at, valid_until }: RepositoryRow) => {
    const packages = await packagesIn(db, { format, suite, channel });
    return {
      format,
      suite,
      channel,
      packages: packages.flatMap(({ subject, digest, size }) =>
        digest === null || size === null ? [] : [{ subject: fromJson(subject), digest, size }],
      ),
      madeAt: Math.floor(made_at / 1000),
      validUntil: Math.floor(valid_until / 1000),
    };
  };

  const look = async (): Promise<void> => {
    while (isWanted) {
      isWanted = false;
      lookedAt = now();
      await fill();
      await index();
    }
  };

  /** One after the other: what is in a channel is read, and written, by one at a time. */
  const inTurn = <T>(act: () => Promise<T>): Promise<T> => {
    const turn = underWay.then(act);
    underWay = turn.then(nothing, nothing);
    return turn;
  };
  const begin = (): void => {
    if (isBegun) return;
    isBegun = true;
    void inTurn(async () => {
      isBegun = false;
      await look().catch((error: unknown) => log.warn({ err: error }, 'publishing'));
    });
  };

  const missing = new Map<string, number>();
  return {
    poke() {
      isWanted = true;
      begin();
    },

    settled: () => underWay,

    promote: (source) =>
      inTurn(async () => {
        const published = (await readPublications(db)).map((each) => each.source);
        const meant = source === null ? published : published.filter((each) => each === source);
        if (meant.length === 0)
          throw new KilnError(
            'not-found',
            source === null
              ? 'nothing is published; kiln repo publish NAME publishes a source’s packages'
              : `${source} is not published; kiln repo publish ${source} publishes its packages`,
          );
        for (const { format, suite, channel } of await readRepositories(db)) {
          if (channel !== 'staging') continue;
          const staged = await packagesIn(db, { format, suite, channel });
          const stable = { format, suite, channel: 'stable' as const };
          const there = await packagesIn(db, stable);
          const others = there.filter((row) => !meant.includes(row.source));
          const moved = staged.filter((row) => meant.includes(row.source));
          const all = together(withNeeded([...others, ...moved], [...staged, ...there]));
          const ids = all.map(({ id }) => id);
          await db.transaction().execute((on) => replacePackages(on, stable, ids, now()));
        }
        isWanted = true;
        begin();
      }),

    async take(outcome) {
      const { format, suite, channel, generation } = outcome;
      const of = { format, suite, channel };
      const row = await findRepository(db, of);
      if (row?.generation !== generation || row.current === generation) return false;
      // What is in it has changed meanwhile: the next index is asked for.
      if (row.content !== contentDigest(await packagesIn(db, of))) return false;
      const problem =
        outcome.kind === 'unindexable'
          ? outcome.problem
          : await problemOf(
              checkIndex(outcome.files, await contentOf(row), {
                blobs: deps.blobs,
                publicKey: deps.repositoryKey,
              }),
            );
      if (problem === null && outcome.kind === 'indexed')
        return db.transaction().execute((on) => keepIndex(on, of, generation, outcome.files));
      log.warn({ ...of, problem }, 'a repository was not signed');
      await db
        .updateTable('repositories')
        .set({ problem })
        .where('format', '=', format)
        .where('suite', '=', suite)
        .where('channel', '=', channel)
        .where('generation', '=', generation)
        .execute();
      return true;
    },

    async sweep() {
      if (now() - lookedAt > PAUSE) isWanted = true;
      if (isWanted) begin();
      for (const row of await readRepositories(db)) {
        if (row.valid_until - now() <= RENEWAL) isWanted = true;
        if (row.current === row.generation || row.problem !== null) continue;
        const name = indexRun(row, row.generation);
        const times = (await deps.signer.has(name)) ? 0 : (missing.get(name) ?? 0) + 1;
        missing.set(name, times);
        if (times < 2) continue;
        missing.delete(name);
        await enqueue(row, row.generation);
      }
    },
  };
};

/** What tells one content of a repository from another. */
const contentDigest = (packages: readonly PackageRow[]): Digest =>
  digestOf(canonicalJson(packages.map(({ id }) => id)));

/** What is called after a flavour: of each that some builds are for, by its newest kernel. */
const newestOfFlavours = (builds: readonly PublishedBuild[]) => {
  const newest = new Map<string, { flavour: string; build: PublishedBuild }>();
  for (const build of builds) {
    const { release, arch } = build.kernel;
    const flavour = flavourOf(release);
    if (flavour === null) continue;
    const before = newest.get(`${flavour} ${arch}`);
    if (before === undefined || compareVersions(release, before.build.kernel.release) > 0)
      newest.set(`${flavour} ${arch}`, { flavour, build });
  }
  return [...newest.values()].map(({ flavour, build: { source, kernel } }) => ({
    kind: 'flavour' as const,
    source,
    flavour,
    kernel: {
      release: kernel.release,
      arch: kernel.arch,
      version: kernelPackageVersion(kernel.release, kernel.build),
    },
  }));
};
