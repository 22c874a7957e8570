import { sql } from 'kysely';
import { KilnError, type ErrorCode } from '../../core/errors.ts';
import { isKernelRelease } from '../../core/kernel/kernel.ts';
import type { MissView } from '../../core/protocol/fleet.ts';
import { SOURCE_NAME, SOURCE_VERSION } from '../../core/source/source.ts';
import type { PageQuery } from '../../core/protocol/parts.ts';
import type { Database } from '../../storage/database.ts';
import { readPage, type Page } from './pages.ts';
import type { BuildRequest } from './resolve-build.ts';

/** A miss: something that was asked for and not had. A field is '' where the request named nothing that can be a name. */
export interface Miss {
  readonly reason: ErrorCode;
  readonly source: string;
  readonly release: string;
}

/** The most rows that are kept: the oldest go first. */
const MOST_ROWS = 10_000;

/** Counts a miss, `times` over. */
export const noteMiss = async (
  db: Database,
  now: number,
  miss: Miss,
  times: number,
): Promise<void> => {
  await db
    .insertInto('misses')
    .values({ ...miss, count: times, last_at: now })
    .onConflict((conflict) =>
      conflict
        .columns(['reason', 'source', 'release'])
        .doUpdateSet({ count: sql`misses.count + ${times}`, last_at: now }),
    )
    .execute();
  const oldest = await db
    .selectFrom('misses')
    .select('last_at')
    .orderBy('last_at', 'desc')
    .offset(MOST_ROWS)
    .limit(1)
    .executeTakeFirst();
  if (oldest !== undefined)
    await db.deleteFrom('misses').where('last_at', '<=', oldest.last_at).execute();
};

/** Misses, the latest first. */
export const listMisses = async (db: Database, wanted: PageQuery): Promise<Page<MissView>> => {
  const { items, next } = await readPage(
    db.selectFrom('misses').selectAll(),
    { table: 'misses', columns: ['last_at', 'reason', 'source', 'release'], direction: 'desc' },
    wanted,
  );
  const views = items.map(({ reason, source, release, count, last_at }) => ({
    reason,
    source: source === '' ? null : source,
    release: release === '' ? null : release,
    count,
    lastAt: last_at,
  }));
  return { items: views, next };
};

/** Counts a build that ended without modules, for each of those who waited for it. */
export const noteLostBuild = async (
  db: Database,
  now: number,
  build: string,
  end: 'failed' | 'excluded',
  times: number,
): Promise<void> => {
  const { name, version, release } = await db
    .selectFrom('builds')
    .innerJoin('sources', 'sources.digest', 'builds.source')
    .innerJoin('kernels', 'kernels.digest', 'builds.kernel')
    .select(['sources.name', 'sources.version', 'kernels.release'])
    .where('builds.id', '=', build)
    .executeTakeFirstOrThrow();
  const reason = end === 'failed' ? 'build-failed' : 'excluded';
  await noteMiss(db, now, { reason, source: `${name}/${version}`, release }, times);
};

/** Counts a request that was refused. */
export const noteRefusal = async (
  db: Database,
  now: number,
  request: BuildRequest | null,
  error: unknown,
): Promise<void> => {
  const reason = error instanceof KilnError ? error.code : 'internal';
  const source = request === null ? '' : await sourceIn(db, request.source);
  const release = request === null ? '' : await releaseIn(db, request.kernel);
  await noteMiss(db, now, { reason, source, release }, 1);
};

const sourceIn = async (db: Database, wanted: BuildRequest['source']): Promise<string> => {
  if ('digest' in wanted) {
    const row = await db
      .selectFrom('sources')
      .select(['name', 'version'])
      .where('digest', '=', wanted.digest)
      .executeTakeFirst();
    return row === undefined ? wanted.digest : `${row.name}/${row.version}`;
  }
  const { name, version } = wanted;
  if (!SOURCE_NAME.test(name)) return '';
  return version !== undefined && SOURCE_VERSION.test(version) ? `${name}/${version}` : name;
};

const releaseIn = async (db: Database, wanted: BuildRequest['kernel']): Promise<string> => {
  if ('release' in wanted) return isKernelRelease(wanted.release) ? wanted.release : '';
  const row = await db
    .selectFrom('kernels')
    .select('release')
    .where('digest', '=', wanted.digest)
    .executeTakeFirst();
  return row?.release ?? wanted.digest;
};
