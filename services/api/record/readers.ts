import type { Digest } from '../../core/digest.ts';
import { KilnError } from '../../core/errors.ts';
import { mayRead, TRUSTS, type Role, type Trust } from '../../core/policy/policy.ts';
import type { Database } from '../../storage/database.ts';
import { isNamed } from './named-blobs.ts';

/** A reader: a token and its role. Records that it may not read are answered as not there. */
export interface Reader {
  readonly token: string;
  readonly role: Role;
}

/** Notes that a token pushed a source or kernel, and so may read it. */
export const notePusher = async (db: Database, tree: Digest, token: string): Promise<void> => {
  await db
    .insertInto('pushers')
    .values({ tree, token })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
};

/** Whether a reader may read a source or kernel. */
export const mayReadTree = async (
  db: Database,
  { token, role }: Reader,
  { digest, trust }: { readonly digest: Digest; readonly trust: Trust },
): Promise<boolean> => {
  if (mayRead(role, { kind: 'tree', trust, isOwn: false })) return true;
  const pushed = await db
    .selectFrom('pushers')
    .select('tree')
    .where('tree', '=', digest)
    .where('token', '=', token)
    .executeTakeFirst();
  return mayRead(role, { kind: 'tree', trust, isOwn: pushed !== undefined });
};

/** The kernels that a reader may read. */
export const readableKernels = (db: Database, reader: Reader) =>
  db
    .selectFrom('kernels')
    .selectAll('kernels')
    .where((where) =>
      where.or([
        where('trust', 'in', openTrusts(reader)),
        where('digest', 'in', pushedTrees(db, reader)),
      ]),
    );

/** The sources that a reader may read. */
export const readableSources = (db: Database, reader: Reader) =>
  db
    .selectFrom('sources')
    .selectAll('sources')
    .where((where) =>
      where.or([
        where('trust', 'in', openTrusts(reader)),
        where('digest', 'in', pushedTrees(db, reader)),
      ]),
    );

/** The trusts of trees that a reader may read, whoever pushed them. */
const openTrusts = ({ role }: Reader): readonly Trust[] =>
  TRUSTS.filter((trust) => mayRead(role, { kind: 'tree', trust, isOwn: false }));

const pushedTrees = (db: Database, { token }: Reader) =>
  db.selectFrom('pushers').select('tree').where('token', '=', token);

/** The builds that a reader may read, as a condition on `builds.id`. */
export const readableBuilds = (db: Database, { token, role }: Reader) =>
  db
    .selectFrom('builds as readable')
    .select('readable.id')
    .$if(!mayRead(role, { kind: 'build', isOwn: false }), (query) =>
      query.innerJoin('askers', 'askers.build', 'readable.id').where('askers.token', '=', token),
    );

/** Whether there is such a build and the reader may read it. */
export const mayReadBuild = async (db: Database, reader: Reader, id: string): Promise<boolean> => {
  const found = await readableBuilds(db, reader).where('readable.id', '=', id).executeTakeFirst();
  return found !== undefined;
};

/** Throws `not-found` unless there is such a build and the reader may read it. */
export const mustReadBuild = async (db: Database, reader: Reader, id: string): Promise<void> => {
  if (!(await mayReadBuild(db, reader, id)))
    throw new KilnError('not-found', `there is no build ${id}`);
};

/** Whether the reader may read a build whose source brings all of these files. Another source may have the same name. */
export const mayReadFiles = async (
  db: Database,
  reader: Reader,
  files: readonly Digest[],
): Promise<boolean> => {
  const found = await readableBuilds(db, reader)
    .innerJoin('artifacts', 'artifacts.build', 'readable.id')
    .where('artifacts.kind', '=', 'file')
    .where('artifacts.digest', 'in', files)
    .select(['artifacts.build', 'artifacts.digest'])
    .execute();
  const byBuild = Map.groupBy(found, ({ build }) => build);
  return [...byBuild.values()].some((rows) =>
    files.every((file) => rows.some(({ digest }) => digest === file)),
  );
};

/** Whether a build that the reader may read made this artifact. */
export const mayReadArtifact = async (
  db: Database,
  reader: Reader,
  digest: Digest,
): Promise<boolean> => {
  const found = await readableBuilds(db, reader)
    .innerJoin('artifacts', 'artifacts.build', 'readable.id')
    .where('artifacts.digest', '=', digest)
    .executeTakeFirst();
  return found !== undefined;
};

/** Whether a reader may read the bytes of a blob that records name: a tree’s, an artifact, a toolchain’s package. */
export const mayReadBlob = async (db: Database, reader: Reader, blob: Digest): Promise<boolean> => {
  if (mayRead(reader.role, { kind: 'build', isOwn: false })) return isNamed(db, blob);
  for (const table of ['sources', 'kernels'] as const) {
    const trees = await db
      .selectFrom(table)
      .select(['digest', 'trust'])
      .where('blob', '=', blob)
      .execute();
    for (const { digest, trust } of trees)
      if (await mayReadTree(db, reader, { digest, trust })) return true;
  }
  const kept = await db
    .selectFrom('toolchain_packages')
    .select('blob')
    .where('blob', '=', blob)
    .executeTakeFirst();
  return kept !== undefined || mayReadArtifact(db, reader, blob);
};
