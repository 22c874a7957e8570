import { BUILD_STATES, isFinished } from '../../core/build/build-state.ts';
import { slotsOf } from '../../core/policy/policy.ts';
import type { Database } from '../../storage/database.ts';
import type { CoordinatorDeps } from './coordinator-deps.ts';

/**
 * The turns of tokens. A token has at most as many builds with the builders as they run at once, a client's token one fewer. Its other
 * builds wait in SQL, in the order in which they were asked for. So builds of other tokens get in between, and no single token can
 * occupy all builders.
 */
export interface Turns {
  /** Whether a queued build may go to the builders now, as it is the turn of one of its askers. */
  isTurnOf(build: string): Promise<boolean>;
  /** All builds that may be with the builders now, or are. */
  current(): Promise<ReadonlySet<string>>;
  /** The builds that may have their turn now that this one has left its place. */
  after(build: string): Promise<readonly string[]>;
  /** Queued builds that have been in the background for too long. */
  overdue(): Promise<readonly string[]>;
  /** Whether a build was asked for only in the background, and less than an hour ago: after that it counts like any other. */
  isBackground(build: string): Promise<boolean>;
}

const UNFINISHED = BUILD_STATES.filter((state) => !isFinished(state));
/** Milliseconds after which a background build counts like any other. */
const LONG = 3_600_000;

export const createTurns = ({
  db,
  signals,
  now,
}: Pick<CoordinatorDeps, 'db' | 'signals' | 'now'>): Turns => ({
  async isTurnOf(build) {
    const slots = await signals.slots();
    const askers = await db.selectFrom('askers').selectAll().where('build', '=', build).execute();
    for (const { token, role, asked_at: at } of askers) {
      const most = slotsOf(role, slots);
      const ahead = await ready(db)
        .select('builds.id')
        .where('askers.token', '=', token)
        .where('builds.id', '!=', build)
        .where((where) =>
          where.or([
            where('builds.state', '=', 'building'),
            where('askers.asked_at', '<', at),
            where.and([where('askers.asked_at', '=', at), where('builds.id', '<', build)]),
          ]),
        )
        .limit(most)
        .execute();
      if (ahead.length < most) return true;
    }
    return askers.length === 0;
  },

  async current() {
    const slots = await signals.slots();
    const rows = await ready(db)
      .select(['builds.id', 'askers.token', 'askers.role'])
      .orderBy('askers.token')
      // By the alphabet, 'building' comes before 'queued'.
      .orderBy('builds.state')
      .orderBy('askers.asked_at')
      .orderBy('builds.id')
      .execute();
    const taken = new Map<string, number>();
    const found = new Set<string>();
    for (const { id, token, role } of rows) {
      const count = taken.get(token) ?? 0;
      taken.set(token, count + 1);
      if (count < slotsOf(role, slots)) found.add(id);
    }
    return found;
  },

  async after(build) {
    const tokens = await db
      .selectFrom('askers')
      .innerJoin('askers as others', 'others.token', 'askers.token')
      .innerJoin('builds', 'builds.id', 'others.build')
      .select('askers.token')
      .distinct()
      .where('askers.build', '=', build)
      .where('builds.state', '=', 'queued')
      .execute();
    if (tokens.length === 0) return [];
    const slots = await signals.slots();
    const found = new Set<string>();
    for (const { token } of tokens) {
      const next = await ready(db)
        .select('builds.id')
        .where('askers.token', '=', token)
        .where('builds.state', '=', 'queued')
        .orderBy('askers.asked_at')
        .orderBy('builds.id')
        .limit(Math.max(1, slots))
        .execute();
      for (const { id } of next) found.add(id);
    }
    return [...found];
  },

  async overdue() {
    const rows = await ready(db)
      .select('builds.id')
      .where('builds.state', '=', 'queued')
      .where('askers.is_background', '=', 1)
      .where('askers.asked_at', '<', now() - LONG)
      .execute();
    return rows.map(({ id }) => id);
  },

  async isBackground(build) {
    const urgent = await db
      .selectFrom('askers')
      .select('token')
      .where('build', '=', build)
      .where((where) =>
        where.or([where('is_background', '=', 0), where('asked_at', '<', now() - LONG)]),
      )
      .executeTakeFirst();
    return urgent === undefined;
  },
});

/** The builds that a builder could have now, or has, with their askers. */
const ready = (db: Database) =>
  db
    .selectFrom('askers')
    .innerJoin('builds', 'builds.id', 'askers.build')
    .where('builds.state', 'in', ['queued', 'building'])
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom('dependencies')
            .innerJoin('builds as needs', 'needs.id', 'dependencies.needs')
            .select('needs.id')
            .whereRef('dependencies.build', '=', 'builds.id')
            .where('needs.state', 'in', UNFINISHED),
        ),
      ),
    );
