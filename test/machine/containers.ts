import { appendFile, mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { WORK } from './places.ts';
import { mustRun } from './run.ts';

const labelOf = (data: string): string => `label=kiln.builder=${join(data, 'builder')}`;

/** The ids of the containers that the kilnd on a data directory has on this machine's Docker, and no other Kiln's. */
export const containersOf = async (
  data: string,
  ...filters: readonly string[]
): Promise<readonly string[]> => {
  const wanted = [labelOf(data), ...filters].flatMap((filter) => ['--filter', filter]);
  return (await mustRun('docker', ['ps', '-aq', ...wanted])).split('\n').filter(Boolean);
};

/** The signals that such containers were sent since a time (milliseconds since 1970), as numbers. */
export const signalsTo = async (data: string, since: number): Promise<readonly string[]> => {
  const seconds = (time: number): string => (time / 1000).toFixed(3);
  const between = ['--since', seconds(since), '--until', seconds(Date.now())];
  const wanted = ['--filter', 'event=kill', '--filter', labelOf(data)];
  const format = ['--format', '{{index .Actor.Attributes "signal"}}'];
  const said = await mustRun('docker', ['events', ...between, ...wanted, ...format]);
  return said.split('\n').filter(Boolean);
};

/** The data directories of the kilnds that this checkout's tests have started. */
const STARTED = join(WORK, 'test/kilnds');

/** Notes that a kilnd runs on a data directory, for `removeLeft`. */
export const noteKilnd = async (data: string): Promise<void> => {
  await mkdir(join(WORK, 'test'), { recursive: true });
  await appendFile(STARTED, `${data}\n`);
};

/** Removes the containers that this checkout's last run of tests has left, as one does that was killed; nobody else's. */
export const removeLeft = async (): Promise<void> => {
  const started = await readFile(STARTED, 'utf8').catch(() => '');
  for (const data of new Set(started.split('\n').filter(Boolean))) {
    const left = await containersOf(data);
    if (left.length > 0) await mustRun('docker', ['rm', '-f', '-v', ...left]);
  }
  await rm(STARTED, { force: true });
};
