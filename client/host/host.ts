import { lstat, readdir, realpath, stat } from 'node:fs/promises';
import { machine, release as runningRelease, version as runningBuild } from 'node:os';
import { dirname, join, sep } from 'node:path';
import { readHostText } from './host-files.ts';
import { KilnError } from '../../services/core/errors.ts';
import { optionsDigest, parseKernelConfig } from '../../services/core/kernel/kernel-config.ts';
import type { HostKernel } from '../../services/core/protocol/kernel.ts';
import { readDistribution } from './distribution.ts';

/** Of a kernel's `.config`, in bytes; a distribution's has a quarter of a megabyte. */
const CONFIG_LIMIT = 4 * 1024 ** 2;

/** The machine, or the root of another, that modules go to. */
export interface Host {
  readonly root: string;
  /** Whether its programs may be run: those of another root would run as this machine's root. */
  readonly runsPrograms: boolean;
}

/** A host from `--root` (default `/`). The machine's own programs are run, another root's only where that is `asked`. */
export const openHost = async (root: string | undefined, asked = false): Promise<Host> => {
  const place = await realpath(root ?? '/').catch((cause: unknown) => {
    throw new KilnError('bad-request', `there is no directory ${root ?? '/'}`, { cause });
  });
  return { root: place, runsPrograms: asked || place === '/' };
};

/**
 * The facts that tell a host's kernel from another of the same release: `uname -v` of the running one and the digest of the options in
 * `/boot/config-RELEASE`, each where it can be read. The distribution is among them, as it names the package of the headers.
 */
export const hostKernel = async (host: Host, release: string): Promise<HostKernel> => {
  const config = await bootConfig(host, release);
  const distribution = (await readDistribution(host)).join(' ').slice(0, 64);
  const isRunning = host.root === '/' && release === runningRelease();
  return {
    release,
    ...(isRunning ? { build: runningBuild(), arch: machine() } : {}),
    ...(config === null ? {} : { options: optionsDigest(parseKernelConfig(config)) }),
    ...(distribution === '' ? {} : { distribution }),
  };
};

/** The text of a kernel's `/boot/config-RELEASE`; `null` where it cannot be read. */
export const bootConfig = (host: Host, release: string): Promise<string | null> =>
  readHostText(host, `boot/config-${release}`, CONFIG_LIMIT);

/** A path below a kernel's `/lib/modules/RELEASE`, as one below the host's root. */
export const inModules = (release: string, path: string): string =>
  `lib/modules/${release}/${path}`;

/** Files that only a kernel's own package puts into `/lib/modules/RELEASE`. A directory without them is what a removed kernel left. */
const KERNELS_OWN = ['kernel', 'modules.builtin', 'vmlinuz'];

/** The kernels a host has. */
export const hostKernels = async (host: Host): Promise<readonly string[]> => {
  const home = join(host.root, 'lib/modules');
  const kernels: string[] = [];
  for (const name of await readdir(home).catch(() => [])) {
    const names = await readdir(join(home, name)).catch((): string[] => []);
    if (KERNELS_OWN.some((own) => names.includes(own))) kernels.push(name);
  }
  return kernels.sort();
};

/** The kernel release meant: the one named, the running one, or the only one below another root. */
export const chooseRelease = async (host: Host, named: string | undefined): Promise<string> => {
  if (named !== undefined) return named;
  if (host.root === '/') return runningRelease();
  const kernels = await hostKernels(host);
  const [only] = kernels;
  if (only === undefined || kernels.length > 1) {
    throw new KilnError(
      'bad-request',
      `name a kernel with -k; ${host.root} has ${kernels.join(', ') || 'none'}`,
    );
  }
  return only;
};

/**
 * `/lib/modules/RELEASE` of a host, which must be there and inside its root: a link that leads out of
 * another root would change this machine instead.
 */
export const modulesDirectory = async (host: Host, release: string): Promise<string> => {
  if (!/^[A-Za-z0-9.+_~-]+$/.test(release) || release.startsWith('.')) {
    throw new KilnError('bad-request', `${JSON.stringify(release)} is no kernel release`);
  }
  const wanted = join(host.root, 'lib/modules', release);
  const place = await realpath(wanted).catch(() => null);
  if (place === null || !(await stat(place)).isDirectory()) {
    const kernels = await hostKernels(host);
    throw new KilnError(
      'install-failed',
      `kernel ${release} is not installed here: no ${wanted}; there is ${kernels.join(', ') || 'none'}`,
    );
  }
  await mustLieInside(host, `lib/modules/${release}`);
  return place;
};

/**
 * Throws `install-failed` where a link on a path, its last name included, leads out of the host's root: this machine would be read or
 * changed instead. Names that are not there yet are accepted.
 */
export const mustLieInside = async ({ root }: Host, path: string): Promise<void> => {
  if (root === '/') return;
  let place = root;
  for (const name of path.split('/').filter((each) => each !== '')) {
    place = join(place, name);
    const found = await lstat(place).catch(() => null);
    if (found === null) return;
    if (!found.isSymbolicLink()) continue;
    const target = await realpath(place).catch(() => null);
    if (target === root || target?.startsWith(`${root}${sep}`) === true) continue;
    throw new KilnError(
      'install-failed',
      `${place} leads out of ${root}, to ${target ?? 'nothing'}; nothing was changed`,
    );
  }
};

/** The place of a host's file for reading. Throws `install-failed` where a link leads out of the host's root. */
export const placeToRead = async (host: Host, path: string): Promise<string> => {
  await mustLieInside(host, path);
  return join(host.root, path);
};

/** The place of a host's file for writing, moving or removing. It may itself be any link; the directories above it must lie inside the root. */
export const placeToChange = async (host: Host, path: string): Promise<string> => {
  await mustLieInside(host, dirname(path));
  return join(host.root, path);
};
