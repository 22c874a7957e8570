import { copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { dkmsModules, strayPaths, type AptHost } from '../machine/apt-host.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { mustRun } from '../machine/run.ts';
import { installTimed, type Place } from './hosts.ts';
import type { Line } from './one-package.ts';

/** What becomes of packages on a host with kiln-dkms when a kernel comes, when they are upgraded, and when they are purged. */
export interface Life {
  readonly packages: readonly string[];
  /** apt's seconds. */
  readonly install: number;
  readonly kernel: number;
  readonly upgrade: number;
  readonly purge: number;
  /** What went otherwise than it should. */
  readonly problems: readonly string[];
}

/** Packages that can be installed together, in as few groups as that takes. */
export const groupsOf = async (
  host: AptHost,
  names: readonly string[],
): Promise<readonly (readonly string[])[]> => {
  const groups: string[][] = [];
  for (const name of names) {
    let isIn = false;
    for (const group of groups) {
      const { status, stdout } = await host.apt('install', '--simulate', ...group, name);
      // apt may drop one of them for another.
      isIn = status === 0 && [...group, name].every((each) => stdout.includes(`Inst ${each} `));
      if (isIn) group.push(name);
      if (isIn) break;
    }
    if (!isIn) groups.push([name]);
  }
  return groups;
};

/**
 * Installs packages in one run of apt on a host with an older kernel; then apt brings the newer one, then newer versions of all of them,
 * then they are purged. `lines`: what was built of them for the newer kernel when each was installed alone.
 */
export const tryLife = async (
  { release }: Place,
  older: string,
  host: AptHost,
  lines: readonly Line[],
  log: (text: string) => Promise<void>,
): Promise<Life> => {
  const names = lines.map((line) => line.package);
  const problems: string[] = [];
  const before = await strayPaths(host.root);
  const timed = async (what: string, packages: readonly string[]): Promise<number> => {
    const { status, words, seconds } = await installTimed(host, packages);
    await log(`== ${what}: ${status}\n${words}`);
    if (status !== 0) problems.push(`${what}: apt ended with ${status}`);
    return seconds;
  };
  const mustBeThere = async (what: string): Promise<void> => {
    const there = await dkmsModules(host.root, release);
    for (const line of lines)
      for (const [module, digest] of Object.entries(line.kiln.modules))
        if (there[module] !== digest)
          problems.push(
            `${what}: ${line.package} has ${there[module] === undefined ? 'no' : 'another'} ${module}`,
          );
  };
  const install = await timed('install', names);
  if (Object.keys(await dkmsModules(host.root, older)).length === 0)
    problems.push(`install: there are no modules for ${older}`);
  const kernel = await timed('a new kernel', [`linux-image-${release}`]);
  await mustBeThere('a new kernel');
  const upgrade = await timed('upgrade', await newerVersions(host, names));
  await mustBeThere('upgrade');
  const started = performance.now();
  const purged = await host.apt('purge', '--autoremove', ...names, `linux-image-${release}`);
  const purge = (performance.now() - started) / 1000;
  await log(`== purge: ${purged.status}\n${purged.stdout}${purged.stderr}`);
  if (purged.status !== 0) problems.push(`purge: apt ended with ${purged.status}`);
  const after = await strayPaths(host.root);
  const left = after.filter((path) => !before.includes(path));
  const lost = before.filter((path) => !after.includes(path));
  if (left.length > 0) problems.push(`purge: left behind: ${left.slice(0, 20).join(' ')}`);
  if (lost.length > 0) problems.push(`purge: lost: ${lost.slice(0, 20).join(' ')}`);
  return { packages: names, install, kernel, upgrade, purge, problems };
};

/** Packages as they are installed, packed anew under the next version; as paths in the host. */
const newerVersions = async (
  host: AptHost,
  names: readonly string[],
): Promise<readonly string[]> => {
  const work = await freshDirectory('newer-versions');
  const home = join(host.root, 'srv/newer');
  await rm(home, { recursive: true, force: true });
  await mkdir(home, { recursive: true });
  for (const name of names) {
    const place = join(work, name);
    await mkdir(place);
    const download = `mkdir -p /srv/newer/got && cd /srv/newer/got && apt-get download -q ${name}`;
    await host.mustRun('sh', '-c', download);
    const [deb = ''] = await readdir(join(home, 'got'));
    await mustRun('dpkg-deb', ['-R', join(home, 'got', deb), place]);
    await rm(join(home, 'got'), { recursive: true });
    const control = join(place, 'DEBIAN/control');
    const text = await readFile(control, 'utf8');
    await writeFile(control, text.replace(/^Version: .*$/m, '$&+next1'));
    await mustRun('dpkg-deb', ['--root-owner-group', '-b', place, join(work, `${name}.deb`)]);
    await copyFile(join(work, `${name}.deb`), join(home, `${name}.deb`));
  }
  return names.map((name) => `/srv/newer/${basename(name)}.deb`);
};
