import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { sourcesOf } from './apt.ts';
import { freshDirectory } from './make-source.ts';
import { WORK } from './places.ts';
import { mustRun, run, type Ran } from './run.ts';

/** Makes a root once, below `.kiln/debian`; whoever wants the same meanwhile waits. `script` makes `$0.part`, with `args` behind it. */
const rootOnce = async (
  label: string,
  script: string,
  ...args: readonly string[]
): Promise<string> => {
  const place = join(WORK, 'debian', `root-${label}`);
  const once = `[ -e "$0" ] || { rm -rf "$0.part" && ${script} && mv "$0.part" "$0"; }`;
  await mkdir(join(WORK, 'debian'), { recursive: true });
  await mustRun('flock', [`${place}.lock`, 'sh', '-c', once, place, ...args]);
  return place;
};

const BOOTSTRAP = 'mmdebstrap --quiet --format=directory "$@" bookworm "$0.part"';

/** A minimal Debian with kmod, as a directory that nobody changes. */
export const bareRoot = (): Promise<string> =>
  rootOnce('bare', BOOTSTRAP, '--variant=minbase', '--include=kmod');

/** mmdebstrap's options that install packages to a copy of the bare root: a quarter of the work of making a root of its own. */
export const onBareRoot = async (...packages: readonly string[]): Promise<readonly string[]> => [
  '--variant=custom',
  `--setup-hook=cp -a '${await bareRoot()}/.' "$1"`,
  `--include=${packages.join(',')}`,
];

/** A minimal Debian with these packages, as a directory that nobody changes. */
export const debianRoot = async (label: string, packages: readonly string[]): Promise<string> =>
  rootOnce(label, BOOTSTRAP, ...(await onBareRoot(...packages)));

/**
 * A minimal Debian of a suite with these packages and an apt of its own, which reads all of the archive as this machine's reads it; as a
 * directory that nobody changes.
 */
export const aptRoot = async (
  label: string,
  suite: string,
  packages: readonly string[],
): Promise<string> => {
  const component = 'main contrib non-free non-free-firmware';
  const sources = join(await freshDirectory('apt-root'), 'debian.sources');
  await writeFile(sources, `${await sourcesOf({ suite, component })}\n`);
  const script = String.raw`
    mmdebstrap --quiet --format=directory --variant=apt --include="$1" "$2" "$0.part" "$3" &&
    rm -f "$0.part"/etc/apt/sources.list "$0.part"/etc/apt/sources.list.d/* &&
    cp "$3" "$0.part/etc/apt/sources.list.d/debian.sources" &&
    cp /etc/resolv.conf "$0.part/etc/resolv.conf" &&
    apt-config dump | grep '^Acquire::' >"$0.part/etc/apt/apt.conf.d/99machine" &&
    chroot "$0.part" apt-get update -q`;
  return rootOnce(label, script, packages.join(','), suite, sources);
};

/** A copy of a root with an apt of its own, for one test to change. */
export const copyAptRoot = async (
  label: string,
  suite: string,
  packages: readonly string[],
): Promise<string> => {
  const root = join(await freshDirectory(label), 'root');
  await mustRun('cp', ['-a', await aptRoot(`${suite}-${label}`, suite, packages), root]);
  return root;
};

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
