import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { sourceOptions } from '../machine/apt.ts';
import { WORK } from '../machine/places.ts';
import { mustRun } from '../machine/run.ts';
import { settle } from '../machine/settle.ts';

/**
 * The directory of dkms's own source with its tests, as a suite of Debian's has it, fetched once. It is never part of this project. Throws
 * where the archive does not give it.
 */
export const suiteSource = async (suite: string): Promise<string> => {
  const place = join(WORK, 'debian', suite, 'dkms-source');
  const find = async (): Promise<string | undefined> =>
    (await readdir(place).catch(() => [])).find((name) => name.startsWith('dkms-'));
  const there = await find();
  if (there !== undefined) return join(place, there);
  const arrival = `${place}.${process.pid}`;
  await mkdir(arrival, { recursive: true });
  const options = [...(await sourceOptions(suite)), '-o', 'APT::Sandbox::User=root'];
  // The tests are upstream's: what Debian adds is not needed, and its description of the package is another file that may be missing.
  await mustRun('apt-get', ['source', '-q', '--download-only', ...options, 'dkms'], {
    cwd: arrival,
  }).catch(async (error: unknown) => {
    const names = await readdir(arrival);
    if (!names.some((name) => name.includes('.orig.tar'))) throw error;
  });
  const [archive = ''] = (await readdir(arrival)).filter((name) =>
    /\.orig\.tar\.[a-z0-9]+$/.test(name),
  );
  await mustRun('tar', ['--no-same-owner', '-xf', archive], { cwd: arrival });
  await settle(arrival, place);
  const made = await find();
  if (made === undefined)
    throw new Error(`dkms’s source in ${suite} has no directory dkms-VERSION`);
  return join(place, made);
};
