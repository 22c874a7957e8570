import { KilnError } from '../../core/errors.ts';
import type { InTreeModule } from '../../core/packages/in-tree.ts';
import { choosePacker, isComposed, packersOf } from '../../core/packages/packers.ts';
import { madeOfDigest, planPackage } from '../../core/packages/plan-package.ts';
import { packageFingerprint, PackagePlan, type PackageFormat } from '../../core/packages/plan.ts';
import type { PackageSubject } from '../../core/packages/subject.ts';
import { PackageView } from '../../core/protocol/package.ts';
import { digestOf, hexOf, type Digest } from '../../core/digest.ts';
import type { Database } from '../../storage/database.ts';
import { fromJson, toJson } from '../../storage/json-text.ts';
import type { Schema } from '../../storage/schema.ts';
import { findMakers, makerIn } from './makers.ts';
import { toolchainsIn } from './records.ts';

/** Packages: rows that are found or made for what they are made of. */

export type PackageRow = Schema['packages'];

/** A subject whose revision is still to be given. */
export type Unrevised = PackageSubject extends infer Each
  ? Each extends { readonly revision: number }
    ? Omit<Each, 'revision'>
    : Each
  : never;

/** Who asks for packages, and how. */
export interface PackageAsking {
  readonly format: PackageFormat;
  /** The kernel's own modules, as far as the asker says what these need. */
  readonly inTree?: readonly InTreeModule[] | undefined;
  readonly madeBy: string;
  /** Whether one that failed is begun anew. */
  readonly isRetry: boolean;
}

/** A package that is asked for. */
export interface PackageRequest extends PackageAsking {
  readonly subject: Unrevised;
  /** The signer's key whose signatures are in it; '' where there are none. */
  readonly key: string;
}

/** After so long what failed is tried again, whoever asks. */
const PAUSE = 600_000;
const MOST_REVISIONS = 10_000;

/**
 * Finds the package that was made of a subject, or notes that it is to be made, in a version that no other package of its name has. One
 * that failed is begun anew where that is asked, or after a while; one whose bytes went is packed again. Throws `no-toolchain` where no
 * pinned toolchain can pack it, `conflict` where another source has the name.
 */
export const findOrMakePackage = async (
  on: Database,
  { format, subject: unrevised, key, madeBy, isRetry }: PackageRequest,
  { script, now }: { readonly script: Digest; readonly now: number },
): Promise<PackageRow> => {
  const first = revised(unrevised, 1);
  const made_of = madeOfDigest(first);
  const known = await on
    .selectFrom('packages')
    .selectAll()
    .where('format', '=', format)
    .where('made_of', '=', made_of)
    .executeTakeFirst();
  const isDue = isRetry || now - (known?.finished_at ?? 0) > PAUSE;
  if (known !== undefined && known.state !== 'gone' && !(known.state === 'failed' && isDue))
    return known;
  // One that went, and came again with other bytes, is made as another version.
  const isOther = known?.state === 'failed' && known.gone_digest !== null;
  if (known?.state === 'failed' && !isOther) return beginAnew(on, known, now);
  const pinned = await toolchainsIn(on, 'pinned');
  const packer =
    pinned.find(({ digest }) => digest === known?.toolchain) ?? choosePacker(format, pinned);
  if (packer === null)
    throw new KilnError(
      'no-toolchain',
      isComposed(format)
        ? 'no toolchain is pinned; push and pin one (images/debian-12-gcc-12)'
        : `no pinned toolchain has ${packersOf(format)}, which pack a package of the format ${format}; push and pin one that has (images/debian-12-gcc-12-dkms)`,
    );
  if (known !== undefined) {
    const fingerprint = packageFingerprint(fromJson(known.plan), packer.digest, script);
    if (!isOther && fingerprint === known.fingerprint) return beginAnew(on, known, now);
    await leaveBehind(on, known);
  }
  const source = 'source' in first ? first.source.name : '';
  if (first.kind !== 'common')
    await mustBeItsName(on, format, planPackage(format, first).name, source);
  for (let revision = 1; revision <= MOST_REVISIONS; revision += 1) {
    const subject = revised(unrevised, revision);
    const plan = mustTravel(planPackage(format, subject));
    const fingerprint = packageFingerprint(plan, packer.digest, script);
    const { numInsertedOrUpdatedRows } = await on
      .insertInto('packages')
      .values({
        id: hexOf(fingerprint).slice(0, 24),
        fingerprint,
        format,
        kind: subject.kind,
        name: plan.name,
        version: plan.version,
        file: plan.file,
        source,
        build: subject.kind === 'modules' ? subject.build : '',
        key,
        subject: toJson(subject),
        made_of,
        plan: toJson(plan),
        toolchain: packer.digest,
        state: 'queued',
        attempt: 0,
        builder: null,
        digest: null,
        gone_digest: null,
        size: null,
        problem: null,
        made_by: madeBy,
        created_at: now,
        finished_at: null,
      })
      .onConflict((conflict) => conflict.doNothing())
      .executeTakeFirst();
    if (numInsertedOrUpdatedRows === 1n) return findPackage(on, hexOf(fingerprint).slice(0, 24));
    if (!('revision' in first))
      throw new KilnError(
        'conflict',
        `another ${plan.name} ${plan.version} was made by another version of Kiln; its version is to be raised`,
      );
  }
  throw new KilnError(
    'conflict',
    `there are ${MOST_REVISIONS} packages of one version; withdraw some`,
  );
};

/** A plan that can be sent to a builder. Throws `conflict`. */
const mustTravel = (plan: PackagePlan): PackagePlan => {
  const parsed = PackagePlan.safeParse(plan);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new KilnError(
    'conflict',
    `no package can be made of this source: ${issue?.path.join('.')}: ${issue?.message}; give it a shorter or plainer name or version`,
  );
};

/** A subject with its revision; what belongs to no source has none. */
const revised = (subject: Unrevised, revision: number): PackageSubject =>
  subject.kind === 'common' ? subject : { ...subject, revision };

/** Names of kernels’ own packages, and of Kiln’s. */
const RESERVED = /^((linux|kiln)-modules-|kmod-(libs|devel)(-|$))/;

/** Different sources may not have packages of one name: names of packages have fewer letters than names of sources. */
const mustBeItsName = async (
  on: Database,
  format: PackageFormat,
  name: string,
  source: string,
): Promise<void> => {
  if (RESERVED.test(name))
    throw new KilnError(
      'conflict',
      `the package would be called ${name}, as one of the distribution’s or Kiln’s own; push the source under another name`,
    );
  const other = await on
    .selectFrom('packages')
    .select('source')
    .where('format', '=', format)
    .where('name', '=', name)
    .where('source', '!=', source)
    .executeTakeFirst();
  if (other !== undefined)
    throw new KilnError(
      'conflict',
      `the package ${name} is that of the source ${other.source}; push ${source} under a name that differs in more than case and punctuation`,
    );
};

const beginAnew = async (
  on: Database,
  { id, attempt }: PackageRow,
  now: number,
): Promise<PackageRow> => {
  const waits = { state: 'queued', builder: null, problem: null, finished_at: null } as const;
  await on
    .updateTable('packages')
    .set({ ...waits, attempt: attempt + 1, created_at: now })
    .where('id', '=', id)
    .execute();
  return findPackage(on, id);
};

/** Has a package not be found any more by what it was made of: its tools are not those of today, which may give other bytes, for another version. */
const leaveBehind = async (on: Database, { id, made_of }: PackageRow): Promise<void> => {
  await on
    .updateTable('packages')
    .set({ made_of: digestOf(`${made_of} before ${id}`) })
    .where('id', '=', id)
    .execute();
};

/** A package's row. Throws `not-found`. */
export const findPackage = async (db: Database, id: string): Promise<PackageRow> => {
  const row = await db.selectFrom('packages').selectAll().where('id', '=', id).executeTakeFirst();
  if (row === undefined) throw new KilnError('not-found', `there is no package ${id}`);
  return row;
};

/** Packages as the wire shows them. */
export const packageViews = async (
  db: Database,
  rows: readonly PackageRow[],
): Promise<readonly PackageView[]> => {
  const makers = await findMakers(
    db,
    rows.map(({ made_by }) => made_by),
  );
  return rows.map(({ made_by, created_at, finished_at, ...row }) =>
    PackageView.parse({
      ...row,
      madeBy: makerIn(makers, made_by),
      createdAt: created_at,
      finishedAt: finished_at,
    }),
  );
};

/** The packages that a build's modules are in, by name. */
export const packagesOf = (db: Database, build: string): Promise<readonly PackageRow[]> =>
  db.selectFrom('packages').selectAll().where('build', '=', build).orderBy('name').execute();
