import type { Digest } from '../../core/digest.ts';
import { roleReaches, trustReaches, type Trust } from '../../core/policy/policy.ts';
import {
  inspectSource,
  isSourceEvidence,
  type InspectedSource,
  type SourceClaims,
  type SourceFacts,
} from '../../core/source/source.ts';
import { DEFAULT_TARBALL_LIMITS } from '../../core/tree/tarball-rules.ts';
import type { ScannedTree } from '../../core/tree/tree.ts';
import { transact, type Database } from '../../storage/database.ts';
import { scanTarball } from '../../storage/scan-tarball.ts';
import { toJson } from '../../storage/json-text.ts';
import { withHostFiles } from './host-files.ts';
import { sourceOf, type StoredSource } from './records.ts';
import { publishPushed } from './publish.ts';
import type { Caller } from './tokens.ts';
import { notePusher, type Reader } from './readers.ts';
import { useUpload, type UploadDeps } from './uploads.ts';

/** A kernel's headers have 16,000 files, a module's source at most some thousands. */
const SOURCE_LIMITS = { ...DEFAULT_TARBALL_LIMITS, entries: 50_000, bytes: 1024 ** 3 };

/**
 * Records the source in a blob. A source that ci or an admin pushes is published under its name and version, which then mean those bytes
 * for good (`conflict` for others); one that a client pushes is reached by digest alone. A refused blob is not kept.
 */
export const ingestSource = async (
  deps: UploadDeps,
  blob: Digest,
  by: Caller,
  { commit, ...given }: SourceClaims & { readonly commit?: string | undefined },
): Promise<StoredSource> =>
  useUpload(deps, blob, by, async () => {
    const scanned = await scanSource(deps, blob);
    const found = inspectSource(scanned, given);
    const record = (): Promise<StoredSource> =>
      transact(deps.db, async (db) => {
        const stored = await recordSource(
          db,
          { ...found, blob, commit: commit ?? null },
          voucher(by),
          deps.now(),
        );
        if (roleReaches(by.role, 'ci')) await publishPushed(db, stored, by.token, deps.now());
        return stored;
      });
    return withHostFiles(deps, blob, by, { ...scanned, ...found, limits: SOURCE_LIMITS }, record);
  });

/** Reads a tarball or package as one of modules' sources. Throws `bad-tarball` or `too-large`. */
export const scanSource = async (
  { blobs }: Pick<UploadDeps, 'blobs'>,
  blob: Digest,
): Promise<ScannedTree> => scanTarball(await blobs.open(blob), isSourceEvidence, SOURCE_LIMITS);

/** Records a source that was found in a blob, or raises the trust in it. Gives it as it is then. */
export const recordSource = async (
  db: Database,
  { source, layout, blob, commit }: FoundSource,
  by: Voucher,
  now: number,
): Promise<StoredSource> => {
  const { digest, tree, name, version, kind, ...facts } = source;
  const row = {
    digest,
    tree,
    name,
    version,
    kind,
    facts: toJson<SourceFacts>(facts),
    commit_id: commit,
    blob,
    layout: toJson(layout),
    trust: by.trust,
    made_by: by.token,
    created_at: now,
  };
  const known = await db
    .selectFrom('sources')
    .selectAll()
    .where('digest', '=', digest)
    .executeTakeFirst();
  if (known === undefined) await db.insertInto('sources').values(row).execute();
  await notePusher(db, digest, by.token);
  const vouched = raisedBy(known ?? row, by);
  await db.updateTable('sources').set(vouched).where('digest', '=', digest).execute();
  return sourceOf({ ...(known ?? row), ...vouched });
};

/** A source, and the blob that it was found in. */
type FoundSource = Pick<InspectedSource, 'source' | 'layout'> & {
  readonly blob: Digest;
  readonly commit: string | null;
};

/** The token that vouches for a tree, and the trust that the tree gets by it. */
export interface Voucher extends Reader {
  readonly trust: Trust;
}

/** The voucher that a caller is, by its role. */
export const voucher = ({ token, role }: Caller): Voucher => ({ token, role, trust: role });

/** The columns of a tree's row that change when somebody vouches for it: the highest trust counts, and the first token that gave it. */
export const raisedBy = (
  row: { readonly trust: Trust; readonly made_by: string },
  by: Pick<Voucher, 'token' | 'trust'>,
): { readonly trust: Trust; readonly made_by: string } =>
  trustReaches(row.trust, by.trust)
    ? { trust: row.trust, made_by: row.made_by }
    : { trust: by.trust, made_by: by.token };
