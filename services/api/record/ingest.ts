import { KilnError } from '../../core/errors.ts';
import type { Digest } from '../../core/digest.ts';
import { roleReaches, trustReaches, type Trust } from '../../core/policy/policy.ts';
import {
  inspectSource,
  isSourceEvidence,
  type Source,
  type SourceClaims,
  type SourceFacts,
} from '../../core/source/source.ts';
import { DEFAULT_TARBALL_LIMITS } from '../../core/tree/tarball-rules.ts';
import type { Database } from '../../storage/database.ts';
import { scanTarball } from '../../storage/scan-tarball.ts';
import { toJson } from '../../storage/json-text.ts';
import { sourceOf, type StoredSource } from './records.ts';
import { takeName } from './owners.ts';
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
    const scanned = await scanTarball(await deps.blobs.open(blob), isSourceEvidence, SOURCE_LIMITS);
    const { source, layout } = inspectSource(scanned, given);
    const { digest, tree, name, version, kind, ...facts } = source;
    const row = {
      digest,
      tree,
      name,
      version,
      kind,
      facts: toJson<SourceFacts>(facts),
      commit_id: commit ?? null,
      blob,
      layout: toJson(layout),
      trust: by.role,
      made_by: by.token,
      created_at: deps.now(),
    };
    return deps.db.transaction().execute(async (db) => {
      const known = await db
        .selectFrom('sources')
        .selectAll()
        .where('digest', '=', source.digest)
        .executeTakeFirst();
      if (known === undefined) await db.insertInto('sources').values(row).execute();
      await notePusher(db, source.digest, by.token);
      if (roleReaches(by.role, 'ci')) await publishName(db, source, by, deps.now());
      const vouched = raisedBy(known ?? row, voucher(by));
      await db.updateTable('sources').set(vouched).where('digest', '=', source.digest).execute();
      return sourceOf({ ...(known ?? row), ...vouched });
    });
  });

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

const publishName = async (
  db: Database,
  source: Source,
  by: Caller,
  now: number,
): Promise<void> => {
  const { name, version } = source;
  await takeName(db, now, name, by.token);
  const taken = await db
    .selectFrom('source_names')
    .select('source')
    .where('name', '=', name)
    .where('version', '=', version)
    .executeTakeFirst();
  if (taken?.source === source.digest) return;
  if (taken !== undefined) {
    throw new KilnError(
      'conflict',
      `${name}/${version} was pushed before with other content; give what changed a new version`,
    );
  }
  await db
    .insertInto('source_names')
    .values({ name, version, source: source.digest, made_by: by.token, created_at: now })
    .execute();
};
