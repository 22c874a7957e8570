import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { settle } from './settle.ts';
import { freshDirectory } from './make-source.ts';
import { WORK } from './places.ts';
import { mustRun } from './run.ts';
import { runInside } from './scratch-host.ts';

/** A minimal Debian with these packages, as a directory: made once, below `.kiln/debian`. */
export const debianRoot = async (label: string, packages: readonly string[]): Promise<string> => {
  const place = join(WORK, 'debian', `root-${label}`);
  const isThere = await stat(place).then(
    () => true,
    () => false,
  );
  if (isThere) return place;
  const arrival = `${place}.${process.pid}`;
  await rm(arrival, { recursive: true, force: true });
  await mustRun('mmdebstrap', [
    '--quiet',
    '--variant=minbase',
    `--include=${packages.join(',')}`,
    '--format=directory',
    'bookworm',
    arrival,
  ]);
  await settle(arrival, place);
  return place;
};

/** A copy of such a root for one test to change. */
export const copyRoot = async (label: string, packages: readonly string[]): Promise<string> => {
  const root = join(await freshDirectory(label), 'root');
  await mustRun('cp', ['-a', await debianRoot(label, packages), root]);
  return root;
};

/** Runs a program inside such a root that must succeed; its standard output. */
export const mustRunIn = async (
  root: string,
  program: string,
  ...args: string[]
): Promise<string> => {
  const { status, stdout, stderr } = await runInside(root, program, args);
  if (status !== 0)
    throw new Error(
      `${program} ${args.join(' ')} in ${root} ended with ${status}:\n${stderr || stdout}`,
    );
  return stdout;
};
