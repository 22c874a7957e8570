import type { X509Certificate } from 'node:crypto';
import { BUILD_STATES, isFinished } from '../../core/build/build-state.ts';
import type { Database } from '../../storage/database.ts';
import { fromJson } from '../../storage/json-text.ts';
import type { Meters, Reading } from '../../storage/meters.ts';
import type { Signals } from '../../storage/signals.ts';

/** What the API's gauges read, of the record and of what is under way: the same in every API of one record. */

export const openReadings = (
  meters: Meters,
  {
    db,
    signals,
    certificate,
    now,
  }: {
    readonly db: Database;
    readonly signals: Pick<Signals, 'slots'>;
    readonly certificate: X509Certificate;
    readonly now: () => number;
  },
): void => {
  const since = (time: number): number => Math.max(0, (now() - time) / 1000);
  const unfinished = BUILD_STATES.filter((state) => !isFinished(state));
  const byState = () =>
    db
      .selectFrom('builds')
      .select(({ fn }) => [
        'state',
        fn.countAll<number>().as('count'),
        fn.min('created_at').as('oldest'),
      ])
      .where('state', 'in', unfinished)
      .groupBy('state')
      .execute();

  meters.gauge('kiln_builds', async () => {
    const counts = new Map((await byState()).map(({ state, count }) => [state, count]));
    // A state without builds is a 0, and no gap.
    return unfinished.map((state) => ({ value: counts.get(state) ?? 0, labels: { state } }));
  });
  meters.gauge('kiln_oldest_build_seconds', async () => {
    const oldest = new Map((await byState()).map((row) => [row.state, row.oldest]));
    return unfinished.map((state) => ({
      value: since(oldest.get(state) ?? now()),
      labels: { state },
    }));
  });
  meters.gauge('kiln_packages', async () => {
    const { count } = await db
      .selectFrom('packages')
      .select(({ fn }) => fn.countAll<number>().as('count'))
      .where('state', 'in', ['queued', 'packing'])
      .executeTakeFirstOrThrow();
    return [{ value: count }];
  });
  meters.gauge('kiln_rebuilds', async () => {
    const rows = await db
      .selectFrom('rebuilds')
      .select(({ fn }) => ['state', fn.countAll<number>().as('count')])
      .groupBy('state')
      .execute();
    const counts = new Map(rows.map(({ state, count }) => [state, count]));
    const states = ['running', 'same', 'different', 'failed'] as const;
    return states.map((state) => ({ value: counts.get(state) ?? 0, labels: { state } }));
  });
  meters.gauge('kiln_slots', async () => [{ value: await signals.slots() }]);

  const lastSync = async () => {
    const row = await db.selectFrom('syncs').selectAll().executeTakeFirst();
    return row === undefined ? null : fromJson(row.view);
  };
  meters.gauge('kiln_sync_age_seconds', async () => {
    const ended = (await lastSync())?.finishedAt ?? null;
    return ended === null ? [] : [{ value: since(ended) }];
  });
  meters.gauge('kiln_sync_problems', async () => {
    const view = await lastSync();
    return view?.state === 'idle' ? [{ value: view.problems.length }] : [];
  });
  meters.gauge('kiln_repository_valid_seconds', async () => {
    const rows = await db
      .selectFrom('repositories')
      .select(['format', 'suite', 'channel', 'served_until'])
      .execute();
    return rows.flatMap(({ served_until: until, ...labels }): readonly Reading[] =>
      until === null ? [] : [{ value: (until - now()) / 1000, labels }],
    );
  });
  meters.gauge('kiln_certificate_valid_seconds', async () => [
    { value: (Date.parse(certificate.validTo) - now()) / 1000 },
  ]);
};
