import { transact } from '../../storage/database.ts';
import type { X509Certificate } from 'node:crypto';
import { canonicalJson } from '../../core/format/canonical-json.ts';
import { digestOf, type Digest } from '../../core/digest.ts';
import type { Outcome } from '../../core/jobs/jobs.ts';
import { indexRun } from '../../core/jobs/run-name.ts';
import {
  MOST_PACKAGES,
  type RepositoryContent,
  type RepositoryName,
} from '../../core/repository/repository.ts';
import type { Blobs } from '../../storage/blobs.ts';
import { fromJson } from '../../storage/json-text.ts';
import type { CoordinatorDeps } from './coordinator-deps.ts';
import { problemOf } from './evidence.ts';
import { checkIndex } from './index-evidence.ts';
import type { PackageRow } from '../record/packages.ts';
import {
  askIndex,
  findRepository,
  keepIndex,
  noteUnsigned,
  packagesIn,
  readRepositories,
  type RepositoryRow,
} from '../record/repositories.ts';

/** What the signer says of a repository. */
export type IndexOutcome = Extract<Outcome, { kind: 'indexed' | 'unindexable' }>;

/** The indexes of repositories, which the signer writes. */
export interface Indexes {
  /** Asks for the index of each repository that has changed, or whose index grows old or could not be signed. */
  ask(): Promise<void>;
  /** Takes the signer's outcome in; false if it changes nothing. */
  take(outcome: IndexOutcome): Promise<boolean>;
  /** Puts lost jobs back on the queue. */
  sweep(): Promise<void>;
}

export interface IndexDeps extends Pick<CoordinatorDeps, 'db' | 'now' | 'signer' | 'log'> {
  readonly blobs: Blobs;
  /** The armored public key of repositories. */
  readonly repositoryKey: string;
  /** The certificate of the key that modules are signed with. */
  readonly certificate: X509Certificate;
}

const DAY = 24 * 3_600_000;
/** How long an index is good for, and when it is signed anew where nothing has changed, in milliseconds. */
const VALIDITY = 7 * DAY;
const RENEWAL = VALIDITY / 2;
/** After so long what failed is tried again. */
export const PAUSE = 600_000;

export const createIndexes = (deps: IndexDeps): Indexes => {
  const { db, now, log } = deps;
  const missing = new Map<string, number>();
  const checked = new Set<string>();

  /** Has the signer write the index of each repository that has changed, or whose index grows old. */
  const ask = async (): Promise<void> => {
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
      const content = contentDigest(packages, deps);
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
    const repository = withoutKabi(await contentOf(row));
    const count = repository.packages.length;
    const problem =
      count > MOST_PACKAGES
        ? `it has ${count} packages, over the limit of ${MOST_PACKAGES}; unpublish some (kiln repo unpublish)`
        : await problemOf(
            deps.signer.add(indexRun(of, generation), { kind: 'index', generation, repository }),
          );
    if (problem !== null) await noteUnsigned(db, of, generation, problem);
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

  return {
    ask,

    async take(outcome) {
      const { format, suite, channel, generation } = outcome;
      const of = { format, suite, channel };
      const row = await findRepository(db, of);
      if (row?.generation !== generation || row.current === generation) return false;
      // What is in it has changed meanwhile: the next index is asked for.
      if (row.content !== contentDigest(await packagesIn(db, of), deps)) return false;
      const problem =
        outcome.kind === 'unindexable'
          ? outcome.problem
          : await problemOf(
              checkIndex(outcome.files, await contentOf(row), {
                blobs: deps.blobs,
                publicKey: deps.repositoryKey,
                certificate: deps.certificate,
                checked,
              }),
            );
      if (problem === null && outcome.kind === 'indexed')
        return transact(db, (on) => keepIndex(on, of, generation, outcome.files));
      log.warn({ ...of, problem }, 'a repository was not signed');
      await noteUnsigned(db, of, generation, problem ?? '');
      return true;
    },

    async sweep() {
      for (const row of await readRepositories(db)) {
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

/** The content as it travels: the signer reads of the modules what they need of a kernel. */
const withoutKabi = (content: RepositoryContent): RepositoryContent => ({
  ...content,
  packages: content.packages.map((each) => {
    if (each.subject.kind !== 'modules') return each;
    const { kabi: _, ...subject } = each.subject;
    return { ...each, subject };
  }),
});

/** Raised with every change of which files an index has: those that there are, are then made anew. */
const FILES = 2;

/** What tells one content of a repository from another: its packages, and the keys that sign it. */
const contentDigest = (
  packages: readonly PackageRow[],
  { certificate, repositoryKey }: Pick<IndexDeps, 'certificate' | 'repositoryKey'>,
): Digest =>
  digestOf(
    canonicalJson({
      files: FILES,
      certificate: certificate.fingerprint256,
      repositoryKey,
      packages: packages.map(({ id }) => id),
    }),
  );
