import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { digestOf } from '../../services/core/digest.ts';
import { splitModule } from '../../services/core/module/module-signature.ts';
import { moduleNameOf } from '../../services/core/module/module-name.ts';
import { readModule } from '../../client/host/kernel-modules.ts';
import { mustRunIn, runInside } from './debian-root.ts';
import { mustRun, type Ran } from './run.ts';

/** A Debian root with an apt of its own, driven as a user drives it. */
export interface AptHost {
  readonly root: string;
  run(program: string, ...args: string[]): Promise<Ran>;
  mustRun(program: string, ...args: string[]): Promise<string>;
  /** `apt-get`, which asks nothing and installs nothing that is only recommended. */
  apt(...args: string[]): Promise<Ran>;
}

const UNASKED = [
  'DEBIAN_FRONTEND=noninteractive',
  'apt-get',
  '-y',
  '-q',
  '--no-install-recommends',
];

/** The host of a root. */
export const aptHost = (root: string): AptHost => ({
  root,
  run: (program, ...args) => runInside(root, program, args),
  mustRun: (program, ...args) => mustRunIn(root, program, ...args),
  apt: (...args) => runInside(root, 'env', [...UNASKED, ...args]),
});

/** What apt would fetch to install packages: how many, and their bytes. */
export const wouldFetch = async (
  host: AptHost,
  names: readonly string[],
): Promise<{ readonly packages: number; readonly bytes: number }> => {
  const { status, stdout, stderr } = await host.apt('install', '--print-uris', '-qq', ...names);
  if (status !== 0) throw new Error(`apt-get install ${names.join(' ')}: ${stderr}`);
  const sizes = [...stdout.matchAll(/^'\S+' \S+ (\d+)/gm)].map(([, size]) => Number(size));
  return { packages: sizes.length, bytes: sizes.reduce((sum, size) => sum + size, 0) };
};

/** The modules that dkms installed for a kernel: digests of them unsigned and not compressed, by name. */
export const dkmsModules = async (
  root: string,
  release: string,
): Promise<Readonly<Record<string, string>>> => {
  const place = join(root, 'lib/modules', release, 'updates/dkms');
  const files = (await readdir(place).catch(() => [])).filter((name) => name.includes('.ko'));
  const modules: Record<string, string> = {};
  for (const file of files.sort()) {
    const bytes = await readModule(join(place, file));
    modules[moduleNameOf(file)] = digestOf(splitModule(bytes)?.unsigned ?? bytes);
  }
  return modules;
};

/** Where modules, their sources and what belongs to them lie. */
const COUNTED =
  'boot etc/depmod.d etc/dkms etc/modprobe.d etc/modules-load.d usr/lib/modules usr/lib/firmware usr/src var/lib/dkms';

/** All paths of a root at places of modules, but for those of installed packages. */
export const strayPaths = async (root: string): Promise<readonly string[]> => {
  const info = join(root, 'var/lib/dpkg/info');
  const owned = new Set<string>();
  for (const name of await readdir(info))
    if (name.endsWith('.list'))
      for (const path of (await readFile(join(info, name), 'utf8')).split('\n'))
        owned.add(merged(path));
  const places = COUNTED.split(' ').filter((place) => existsSync(join(root, place)));
  const found = (await mustRun('find', places, { cwd: root })).split('\n');
  return found.filter((path) => path !== '' && !owned.has(merged(`/${path}`))).sort();
};

/** A path as a root has it whose `/lib`, `/bin` and `/sbin` are links below `/usr`. */
const merged = (path: string): string => path.replace(/^\/(lib64|lib|bin|sbin)(?=\/|$)/, '/usr/$1');
