import { join } from 'node:path';
import { mustRun } from './run.ts';

/** The ids of the containers that the kilnd on a data directory has on this machine's Docker, and no other Kiln's. */
export const containersOf = async (
  data: string,
  ...filters: readonly string[]
): Promise<readonly string[]> => {
  const label = `label=kiln.builder=${join(data, 'builder')}`;
  const wanted = [label, ...filters].flatMap((filter) => ['--filter', filter]);
  return (await mustRun('docker', ['ps', '-aq', ...wanted])).split('\n').filter(Boolean);
};
