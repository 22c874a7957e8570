import { dkmsModules, strayPaths, wouldFetch, type AptHost } from '../machine/apt-host.ts';
import { installTimed, type Place } from './hosts.ts';

/** How one of the two hosts fared with a package. */
export interface Fared {
  /** `uninstallable`: apt refuses the package, whose dependencies the suite does not have. */
  readonly outcome: 'built' | 'excluded' | 'failed' | 'uninstallable';
  /** apt's, from its start to its end, with everything fetched before. */
  readonly seconds: number;
  /** Digests of the modules, unsigned and not compressed, by name. */
  readonly modules: Readonly<Record<string, string>>;
}

/** A package on both hosts. */
export interface Line {
  readonly suite: string;
  readonly release: string;
  readonly package: string;
  readonly version: string;
  /** What apt fetches for the package itself and what it needs besides dkms. */
  readonly bytes: number;
  readonly packages: number;
  /** `seconds`: with the modules built before; `coldSeconds`: they were built meanwhile. */
  readonly kiln: Fared & { readonly coldSeconds: number };
  /** apt's exit status on the host with kiln-dkms: 0, whatever the module came to. */
  readonly status: number;
  /** Paths that were not there before, after the package was purged from the host with kiln-dkms; and those that are lost. */
  readonly left: readonly string[];
  readonly lost: readonly string[];
  readonly dkms: Fared;
}

const UNINSTALLABLE: Fared = { outcome: 'uninstallable', seconds: 0, modules: {} };

const faredOf = async (
  host: AptHost,
  release: string,
  { words, seconds }: { readonly words: string; readonly seconds: number },
): Promise<Fared> => {
  const modules = await dkmsModules(host.root, release);
  const isExcluded = /BUILD_EXCLUSIVE|excluded/i.test(words);
  const outcome = Object.keys(modules).length > 0 ? 'built' : isExcluded ? 'excluded' : 'failed';
  return { outcome, seconds, modules };
};

/** Takes a package and what came with it off a host, however well its installation went. */
const purge = async (host: AptHost, name: string): Promise<void> => {
  const { status } = await host.apt('purge', '--autoremove', name);
  if (status === 0) return;
  await host.run('dpkg', '--purge', '--force-all', name);
  const { status: again, stderr } = await host.apt('install', '--fix-broken');
  if (again !== 0) throw new Error(`${name} cannot be purged: ${stderr}`);
  await host.apt('autoremove', '--purge');
};

const versionOf = async (host: AptHost, name: string): Promise<string> => {
  const text = await host.mustRun('apt-cache', 'show', '--no-all-versions', name);
  return /^Version: (.*)$/m.exec(text)?.[1] ?? '';
};

/**
 * Installs a package on both hosts and purges it: on that with kiln-dkms twice, first with its modules not built yet. `log` gets what apt
 * said.
 */
export const tryPackage = async (
  { suite, release }: Place,
  name: string,
  hosts: { readonly kiln: AptHost; readonly dkms: AptHost },
  log: (text: string) => Promise<void>,
): Promise<Line> => {
  const { kiln, dkms } = hosts;
  const version = await versionOf(kiln, name);
  const refused: boolean[] = [];
  for (const host of [kiln, dkms])
    refused.push((await host.apt('install', '--simulate', name)).status !== 0);
  if (refused.every(Boolean))
    return {
      suite,
      release,
      package: name,
      version,
      packages: 0,
      bytes: 0,
      kiln: { ...UNINSTALLABLE, coldSeconds: 0 },
      status: 0,
      left: [],
      lost: [],
      dkms: UNINSTALLABLE,
    };
  const before = await strayPaths(kiln.root);
  const fetched = await wouldFetch(kiln, [name]);
  const cold = await installTimed(kiln, [name]);
  await log(`== kiln-dkms, ${name}, not built yet: ${cold.status}\n${cold.words}`);
  // What takes longer than apt waits goes on, and the timer finishes it.
  for (let tries = 0; tries < 5 && cold.words.includes('did not end in time'); tries += 1)
    await kiln.run('/usr/lib/kiln/hook', 'autoinstall', '--all');
  await purge(kiln, name);
  const warm = await installTimed(kiln, [name]);
  await log(`== kiln-dkms, ${name}: ${warm.status}\n${warm.words}`);
  const withKiln = await faredOf(kiln, release, warm);
  await purge(kiln, name);
  const after = await strayPaths(kiln.root);
  const theirs = await installTimed(dkms, [name]);
  await log(`== dkms, ${name}: ${theirs.status}\n${theirs.words}`);
  const withDkms = await faredOf(dkms, release, theirs);
  await purge(dkms, name);
  return {
    suite,
    release,
    package: name,
    version,
    ...fetched,
    kiln: { ...withKiln, coldSeconds: cold.seconds },
    status: Math.max(cold.status, warm.status),
    left: after.filter((path) => !before.includes(path)),
    lost: before.filter((path) => !after.includes(path)),
    dkms: withDkms,
  };
};
