import { transact } from '../../storage/database.ts';
import { KilnError } from '../../core/errors.ts';
import {
  flavourOf,
  kernelPackageVersion,
  rpmDistribution,
  rpmFlavourOf,
  versionOrder,
} from '../../core/packages/names.ts';
import { REPOSITORY_FORMATS, type RepositoryFormat } from '../../core/packages/plan.ts';
import { CHANNELS, type RepositoryName } from '../../core/repository/repository.ts';
import { fromJson } from '../../storage/json-text.ts';
import type { CoordinatorDeps } from './coordinator-deps.ts';
import { together, usable, withNeeded } from './in-one-repository.ts';
import type { Packing } from './packing.ts';
import { publishedBuilds, type PublishedBuild } from './published.ts';
import type { PackageRow } from '../record/packages.ts';
import {
  noteProblem,
  packagesIn,
  readPublications,
  readRepositories,
  replacePackages,
  type Publication,
} from '../record/repositories.ts';

/** What is in the channels of repositories. Nobody else writes it, and one call at a time is made here (`publishing.ts`). */
export interface Channels {
  /** Has packages made of what is published, and brings the channels up to the record. */
  fill(): Promise<void>;
  /** Gives what is in `staging` to all: of one source, or of all that are published. Throws `not-found` where there is nothing. */
  promote(source: string | null): Promise<void>;
}

export interface ChannelDeps extends Pick<CoordinatorDeps, 'db' | 'now' | 'evidence'> {
  readonly packing: Pick<Packing, 'ofBuild' | 'of'>;
}

/** Who asks for the packages of what is published. */
const PUBLISHER = 'publisher';

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
const isMade = (rows: readonly PackageRow[]): boolean =>
  rows.every(({ state }) => state === 'made');

export const createChannels = ({ db, now, evidence, packing }: ChannelDeps): Channels => {
  /**
   * Packages of a publication by suite. Those of a build come when all of them are there, and so is what is called after its flavour, where
   * that follows it: who upgrades the kernel is to find both, or neither.
   */
  const packagesOf = async (
    { source }: Publication,
    format: RepositoryFormat,
    problem: (words: string) => void,
  ): Promise<ReadonlyMap<string, Wanted>> => {
    const asking = { format, madeBy: PUBLISHER, isRetry: false };
    const found = new Map<string, Wanted>();
    const add = (suite: string, rows: readonly PackageRow[], isHeldBack = false): void => {
      const before = found.get(suite) ?? NOTHING;
      found.set(suite, {
        rows: [...before.rows, ...(isMade(rows) && !isHeldBack ? rows : [])],
        names: [...before.names, ...rows.map(({ name }) => name)],
      });
    };
    const builds: { readonly build: PublishedBuild; readonly rows: readonly PackageRow[] }[] = [];
    for (const build of ofOneDistribution(
      await publishedBuilds(db, source, evidence.key, format),
      format,
    )) {
      const rows = await orProblem(packing.ofBuild(build.id, asking), problem);
      for (const { file, problem: words } of rows) if (words !== null) problem(`${file}: ${words}`);
      builds.push({ build, rows });
    }
    for (const suite of new Set(builds.flatMap(({ build }) => build.suites))) {
      const here = builds.filter(({ build }) => build.suites.includes(suite));
      const made = here.filter(({ rows }) => rows.length > 0 && isMade(rows));
      const waiting = new Set<string>();
      for (const { build, subject } of newestOfFlavours(
        made.map((each) => each.build),
        format,
      )) {
        const following = await orProblem(
          packing.of(subject, asking).then((row) => [row]),
          problem,
        );
        add(suite, following);
        if (following.some(({ state }) => state === 'queued' || state === 'packing'))
          waiting.add(build.id);
      }
      for (const { build, rows } of here) add(suite, rows, waiting.has(build.id));
    }
    return found;
  };

  /** What a channel has next: what is wanted, of each package one version before, to go back to, and what all of these need. */
  const nextOf = async (
    of: RepositoryName,
    wanted: Wanted,
    stays: (row: PackageRow) => boolean,
  ): Promise<readonly string[]> => {
    const order = versionOrder(of.format);
    const ids = new Set(wanted.rows.map(({ id }) => id));
    const names = new Set(wanted.names);
    const left = await usable(
      db,
      (await packagesIn(db, of)).filter(({ id }) => !ids.has(id)),
      evidence.key,
    );
    const newest = new Map<string, PackageRow>();
    for (const row of left) {
      const line = lineOf(row);
      const other = newest.get(line);
      if (other === undefined || order(row.version, other.version) > 0) newest.set(line, row);
    }
    const before = new Set(newest.values());
    const kept = left.filter((row) => stays(row) || (names.has(row.name) && before.has(row)));
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
        for (const format of REPOSITORY_FORMATS) still.add(`${format} ${publication.source}`);
        continue;
      }
      if (publication.channel === 'stable') direct.add(publication.source);
      const problems: string[] = [];
      for (const format of publication.formats)
        for (const [suite, more] of await packagesOf(publication, format, (words) => {
          problems.push(words);
          // What is there of it stays until all of it can be told.
          still.add(`${format} ${publication.source}`);
        })) {
          const key = `${format} ${suite}`;
          const before = wanted.get(key) ?? NOTHING;
          wanted.set(key, {
            of: { format, suite },
            rows: [...before.rows, ...more.rows],
            names: [...before.names, ...more.names],
          });
        }
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
          ({ source }) => still.has(`${of.format} ${source}`) || isStaged(source),
        );
        await transact(db, (on) => replacePackages(on, { ...of, channel }, next, now()));
      }
    }
  };

  return {
    fill,

    async promote(source) {
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
        await transact(db, (on) => replacePackages(on, stable, ids, now()));
      }
    },
  };
};

/** Packages of which one replaces another: those of a name, and where all kernels' have one name, those of a kernel. */
const lineOf = ({ format, name, subject }: PackageRow): string => {
  const of = fromJson(subject);
  return format === 'kmp' && of.kind === 'modules' ? `${name} ${of.kernel.release}` : name;
};

/**
 * Builds whose packages that track the kABI may be in one repository: none where kernels of several distributions of RPM are together, as the
 * newest for one would be offered to the other, which cannot take it.
 */
const ofOneDistribution = (
  builds: readonly PublishedBuild[],
  format: RepositoryFormat,
): readonly PublishedBuild[] =>
  format === 'kmp'
    ? builds.filter(({ suites }) => distributionsOf(builds, suites).size <= 1)
    : builds;

const distributionsOf = (
  builds: readonly PublishedBuild[],
  suites: readonly string[],
): ReadonlySet<string | null> =>
  new Set(
    builds
      .filter((build) => build.suites.some((suite) => suites.includes(suite)))
      .map(({ kernel }) => rpmDistribution(kernel.release)),
  );

/**
 * What is called after a flavour: of each that some builds are for, by its newest kernel. Where kernels of several distributions of RPM are
 * together, none could be called so: hosts of one would be offered what is for the other. What tracks the kABI has its flavour's name itself.
 */
const newestOfFlavours = (builds: readonly PublishedBuild[], format: RepositoryFormat) => {
  const order = versionOrder(format);
  const distributions = new Set(builds.map(({ kernel }) => rpmDistribution(kernel.release)));
  if (format === 'kmp' || (format === 'rpm' && distributions.size > 1)) return [];
  const newest = new Map<string, { flavour: string | null; build: PublishedBuild }>();
  for (const build of builds) {
    const { release, arch } = build.kernel;
    const flavour = format === 'rpm' ? rpmFlavourOf(release) : flavourOf(release);
    // Kernels of distributions with RPM may have none, and are followed all the same.
    if (flavour === null && format === 'deb') continue;
    const before = newest.get(`${flavour} ${arch}`);
    if (before === undefined || order(release, before.build.kernel.release) > 0)
      newest.set(`${flavour} ${arch}`, { flavour, build });
  }
  return [...newest.values()].map(({ flavour, build }) => {
    const { release, arch, build: words } = build.kernel;
    const kernel = { release, arch, version: kernelPackageVersion(release, words) };
    return { build, subject: { kind: 'flavour' as const, source: build.source, flavour, kernel } };
  });
};
