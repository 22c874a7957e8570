import { transact } from '../../storage/database.ts';
import { KilnError } from '../../core/errors.ts';
import type { Digest } from '../../core/digest.ts';
import type { Outcome } from '../../core/jobs/jobs.ts';
import { packageRun } from '../../core/jobs/run-name.ts';
import { bringsSettings, licensesOf } from '../../core/packages/contents.ts';
import { isComposed } from '../../core/packages/packers.ts';
import { unpackedLimit } from '../../core/packages/plan-package.ts';
import type { Blobs } from '../../storage/blobs.ts';
import { checkPackage } from '../../storage/check-package.ts';
import { fromJson } from '../../storage/json-text.ts';
import { createKabiReader } from '../../storage/read-kabi.ts';
import type { CoordinatorDeps } from './coordinator-deps.ts';
import { problemOf } from './evidence.ts';
import {
  findOrMakePackage,
  findPackage,
  type PackageAsking,
  type PackageRow,
  type Unrevised,
} from '../record/packages.ts';
import { modulesSubject } from '../record/package-subjects.ts';
import { buildView } from '../record/build-views.ts';

type Of<Kind extends Outcome['kind']> = Extract<Outcome, { kind: Kind }>;

/** Makes packages of what was signed. Like builds, they are rows first and jobs after. */
export interface Packing {
  /**
   * The packages of a build in a format, and what they need beside them; those that are not there yet are begun. Throws `not-found`,
   * `withdrawn`, `conflict` or `no-toolchain`.
   */
  ofBuild(build: string, asking: PackageAsking): Promise<readonly PackageRow[]>;
  /** One package; begun if it is not there, or failed and is to be tried again. */
  of(subject: Unrevised, asking: PackageAsking): Promise<PackageRow>;
  /** Takes an outcome in; false if it changes nothing. */
  take(outcome: Of<'packing' | 'packed' | 'unpackable'>, sender: string): Promise<boolean>;
  /** Puts a package on the builders' queue. */
  enqueue(id: string): Promise<void>;
}

/** What packing needs besides. */
export interface PackingDeps extends CoordinatorDeps {
  readonly blobs: Blobs;
  /** Digest of `images/package`. */
  readonly packageScript: Digest;
}

export const createPacking = (deps: PackingDeps): Packing => {
  const { db, blobs, now, packageScript, evidence } = deps;
  const subjects = { db, blobs, key: evidence.key, readKabi: createKabiReader(blobs) };

  const enqueue = async (id: string): Promise<void> => {
    const { attempt, plan, toolchain, state } = await findPackage(db, id);
    if (state !== 'queued' && state !== 'packing') return;
    await deps.builder.add(packageRun(id, attempt), {
      kind: 'package',
      package: id,
      attempt,
      plan: fromJson(plan),
      toolchain,
      script: packageScript,
    });
  };

  const of: Packing['of'] = async (subject, asking) => {
    const key = subject.kind === 'modules' ? evidence.key : '';
    const row = await transact(db, (on) =>
      findOrMakePackage(on, { ...asking, subject, key }, { script: packageScript, now: now() }),
    );
    if (row.state === 'queued') await enqueue(row.id);
    return row;
  };

  /** Ends a builder's try; false if it is not the one that is at work. */
  const end = async (
    { package: id, attempt }: Of<'packed' | 'unpackable'>,
    sender: string,
    change: Partial<PackageRow>,
  ): Promise<boolean> => {
    const { numUpdatedRows } = await db
      .updateTable('packages')
      .set({ ...change, finished_at: now() })
      .where('id', '=', id)
      .where('state', '=', 'packing')
      .where('attempt', '=', attempt)
      .where('builder', '=', sender)
      .executeTakeFirst();
    return numUpdatedRows > 0n;
  };

  return {
    of,
    enqueue,

    async ofBuild(build, asking) {
      const subject = await modulesSubject(subjects, build, asking);
      const rows = [await of(subject, asking)];
      // An image has all that is a source's.
      const isWhole = isComposed(asking.format);
      if (bringsSettings(subject) && !isWhole) {
        const { source, files } = subject;
        const licenses = licensesOf({ ...subject, revision: 1 });
        rows.push(await of({ kind: 'settings', source, files, licenses }, asking));
      }
      if (!isWhole) rows.push(await of({ kind: 'common' }, asking));
      for (const needed of (await buildView(db, build)).dependencies)
        rows.push(...(await this.ofBuild(needed, asking)));
      return [...new Map(rows.map((row) => [row.id, row])).values()];
    },

    async take(outcome, sender) {
      if (outcome.kind === 'packing') {
        const { numUpdatedRows } = await db
          .updateTable('packages')
          .set({ state: 'packing', builder: sender })
          .where('id', '=', outcome.package)
          .where('state', 'in', ['queued', 'packing'])
          .where('attempt', '=', outcome.attempt)
          .executeTakeFirst();
        return numUpdatedRows > 0n;
      }
      if (outcome.kind === 'unpackable')
        return end(outcome, sender, { state: 'failed', problem: outcome.problem });
      const row = await findPackage(db, outcome.package).catch(() => null);
      if (row === null || row.state !== 'packing' || row.builder !== sender) return false;
      const problem = await problemOf(checkStored(blobs, row, outcome.digest, outcome.size));
      return end(
        outcome,
        sender,
        problem === null
          ? {
              state: 'made',
              digest: outcome.digest,
              gone_digest: null,
              size: outcome.size,
              problem: null,
            }
          : {
              state: 'failed',
              problem: `what the builder packed is not what was planned: ${problem}`,
            },
      );
    },
  };
};

/** Checks that a stored package is what was planned. */
const checkStored = async (
  blobs: Blobs,
  { subject, plan, gone_digest }: Pick<PackageRow, 'subject' | 'plan' | 'gone_digest'>,
  digest: Digest,
  size: number,
): Promise<void> => {
  if (gone_digest !== null && gone_digest !== digest)
    throw new KilnError(
      'unverified',
      `its bytes are not those that it had before (${gone_digest})`,
    );
  const limit = unpackedLimit(fromJson(subject));
  const bytes = await blobs.read(digest, limit);
  if (bytes.length !== size)
    throw new KilnError('unverified', 'it is not stored in the size that was reported');
  await checkPackage(bytes, fromJson(plan), limit, (named) => blobs.read(named, limit));
};
