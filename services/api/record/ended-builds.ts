import type { Database } from '../../storage/database.ts';
import { fromJson } from '../../storage/json-text.ts';
import type { Meters } from '../../storage/meters.ts';

/** Counts a build that has ended, and what its time went to. */
export const meterEnd = async (db: Database, meters: Meters, id: string): Promise<void> => {
  const row = await db
    .selectFrom('builds')
    .innerJoin('kernels', 'kernels.digest', 'builds.kernel')
    .innerJoin('toolchains', 'toolchains.digest', 'builds.toolchain')
    .select(['builds.state', 'failure', 'timings', 'started_at', 'finished_at'])
    .select(['builds.created_at', 'kernels.release', 'toolchains.name as toolchain'])
    .where('builds.id', '=', id)
    .executeTakeFirst();
  if (row === undefined) return;
  const { state, failure, timings, release, toolchain } = row;
  const reason = failure === null ? '' : fromJson(failure).code;
  meters.count('kiln_builds_ended_total', { state, toolchain, release, reason });
  const { started_at: began, finished_at: ended } = row;
  const phase = (name: string, milliseconds: number): void => {
    if (milliseconds >= 0)
      meters.time('kiln_build_phase_seconds', milliseconds / 1000, { phase: name });
  };
  if (began === null || ended === null || timings === null) return;
  const { prepare, sandbox, check } = fromJson(timings);
  phase('queued', began - row.created_at);
  phase('prepare', prepare);
  phase('sandbox', sandbox);
  phase('check', check);
  phase('sign', ended - began - prepare - sandbox - check);
};
