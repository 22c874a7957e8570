import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { freshDirectory } from './make-source.ts';
import { WORK } from './places.ts';
import { mustRun, run, type Ran } from './run.ts';

/** Makes a root once, below `.kiln/debian`, with mmdebstrap's options for it; whoever wants the same meanwhile waits. */
const rootOnce = async (label: string, ...options: readonly string[]): Promise<string> => {
  const place = join(WORK, 'debian', `root-${label}`);
  const script =
    '[ -e "$0" ] || { rm -rf "$0.part" && mmdebstrap --quiet --format=directory "$@" bookworm "$0.part" && mv "$0.part" "$0"; }';
  await mkdir(join(WORK, 'debian'), { recursive: true });
  await mustRun('flock', [`${place}.lock`, 'sh', '-c', script, place, ...options]);
  return place;
};

/** A minimal Debian with kmod, as a directory that nobody changes. */
export const bareRoot = (): Promise<string> =>
  rootOnce('bare', '--variant=minbase', '--include=kmod');

/** mmdebstrap's options that install packages to a copy of the bare root: a quarter of the work of making a root of its own. */
export const onBareRoot = async (...packages: readonly string[]): Promise<readonly string[]> => [
  '--variant=custom',
  `--setup-hook=cp -a '${await bareRoot()}/.' "$1"`,
  `--include=${packages.join(',')}`,
];

/** A minimal Debian with these packages, as a directory that nobody changes. */
export const debianRoot = async (label: string, packages: readonly string[]): Promise<string> =>
  rootOnce(label, ...(await onBareRoot(...packages)));

/** A copy of such a root for one test to change. */
export const copyRoot = async (label: string, packages: readonly string[]): Promise<string> => {
  const root = join(await freshDirectory(label), 'root');
  await mustRun('cp', ['-a', await debianRoot(label, packages), root]);
  return root;
};

/** Runs a program inside a root, in a mount namespace of its own, so that the host has a /proc and nothing stays mounted after. */
export const runInside = (root: string, program: string, args: readonly string[]): Promise<Ran> =>
  run(
    'unshare',
    [
      '--mount',
      'sh',
      '-c',
      'root=$1; shift; mount -t proc proc "$root/proc" && exec chroot "$root" "$@"',
      'sh',
      root,
      program,
      ...args,
    ],
    { env: { PATH: '/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C.UTF-8' } },
  );

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
