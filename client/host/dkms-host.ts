import { lstat, readdir, readFile, readlink, realpath, rm, rmdir, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { KilnError } from '../../services/core/errors.ts';
import { SOURCE_NAME, SOURCE_VERSION } from '../../services/core/source/source.ts';
import { runDepmod } from './depmod.ts';
import { USUAL_LAYOUT, type DkmsLayout } from './dkms-framework.ts';
import { modulesDirectory, mustLieInside, type Host } from './host.ts';
import { hasProgram, notRun, runOn } from './programs.ts';

/** A module source that DKMS has on a host. */
export interface DkmsSource {
  readonly name: string;
  readonly version: string;
  readonly layout: DkmsLayout;
  /** Where its source is, as a path of this machine; `null` where it is gone. */
  readonly directory: string | null;
  readonly kernels: readonly DkmsKernel[];
}

/** A kernel that DKMS has built a source for. */
export interface DkmsKernel {
  readonly release: string;
  readonly arch: string;
  /** Whether its modules are in use there, or only built. */
  readonly isInstalled: boolean;
  /** The modules' file names. */
  readonly files: readonly string[];
  /** The kernel's own modules that DKMS has moved aside and moves back when it removes its own. */
  readonly originals: readonly string[];
}

const RELEASE = /^[0-9]+\.[A-Za-z0-9.+_~-]{1,100}$/;
const ARCH = /^[a-z0-9_]{1,32}$/;
const MODULE_FILE = /^[A-Za-z0-9_-]{1,64}\.ko(\.gz|\.xz|\.zst)?$/;

/** The sources that DKMS has, each with the kernels it is built for or installed on: what `dkms status` lists. */
export const dkmsSources = async (
  host: Host,
  layout = USUAL_LAYOUT,
): Promise<readonly DkmsSource[]> => {
  await mustLieInside(host, layout.tree);
  const all = join(host.root, layout.tree);
  const sources: DkmsSource[] = [];
  for (const name of await directoriesIn(all, SOURCE_NAME)) {
    for (const version of await directoriesIn(join(all, name), SOURCE_VERSION)) {
      const home = join(all, name, version);
      const link = await lstat(join(home, 'source')).catch(() => null);
      if (link === null) continue;
      const directory = await sourceDirectory(host, join(home, 'source'));
      const kernels = await kernelsOf(join(all, name), version);
      sources.push({ name, version, layout, directory, kernels });
    }
  }
  return sources;
};

/** The kernels that one version of a source is built for. `tree` is where DKMS keeps all of the source. */
const kernelsOf = async (tree: string, version: string): Promise<readonly DkmsKernel[]> => {
  const kernels: DkmsKernel[] = [];
  for (const release of await directoriesIn(join(tree, version), RELEASE)) {
    for (const arch of await directoriesIn(join(tree, version, release), ARCH)) {
      const files = await filesIn(join(tree, version, release, arch, 'module'));
      if (files.length === 0) continue;
      const own = `${version}/${release}/${arch}`;
      const active = await readlink(join(tree, `kernel-${release}-${arch}`)).catch(() => '');
      kernels.push({
        release,
        arch,
        files,
        isInstalled: active === own || active.endsWith(`/${basename(tree)}/${own}`),
        originals: await filesIn(join(tree, 'original_module', release, arch)),
      });
    }
  }
  return kernels;
};

/** The directory that DKMS's link to a source leads to. The link's target is a path on its host, which may be another root. */
const sourceDirectory = async (host: Host, link: string): Promise<string | null> => {
  const target = await readlink(link).catch(() => null);
  const wanted = target?.startsWith('/') === true ? join(host.root, target) : link;
  const place = await realpath(wanted).catch(() => null);
  const isInside = host.root === '/' || place?.startsWith(`${host.root}/`) === true;
  return place !== null && isInside && (await stat(place)).isDirectory() ? place : null;
};

const directoriesIn = async (directory: string, pattern: RegExp): Promise<readonly string[]> => {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  return entries
    .filter((entry) => entry.isDirectory() && pattern.test(entry.name))
    .map(({ name }) => name)
    .sort();
};

const filesIn = async (directory: string): Promise<readonly string[]> =>
  (await readdir(directory).catch(() => [])).filter((name) => MODULE_FILE.test(name)).sort();

/**
 * Removes DKMS's copies of a source for one kernel: by `dkms remove` where the host has dkms, which also moves the kernel's own modules
 * back; else by removing the files. Throws `install-failed`, with nothing changed, where that is not safe.
 */
export const removeFromDkms = async (
  host: Host,
  source: DkmsSource,
  kernel: DkmsKernel,
): Promise<void> => {
  const label = `${source.name}/${source.version}`;
  const where = `${kernel.release}/${kernel.arch}`;
  if (!host.runsPrograms || !(await hasProgram(host, 'dkms'))) {
    await removeFiles(host, source, kernel);
    return;
  }
  const end = await runOn(host, 'dkms', ['remove', label, '-k', where]);
  const tree = join(host.root, source.layout.tree, source.name);
  const home = join(tree, source.version);
  if (await isThere(join(home, kernel.release, kernel.arch)))
    throw new KilnError(
      'install-failed',
      `dkms remove ${label} -k ${where} failed (${end.words || `exit status ${end.status}`}); run it yourself`,
    );
  // Older dkms keeps a source that is built for no kernel any more.
  if ((await kernelsOf(tree, source.version)).length === 0 && (await isThere(home)))
    await runOn(host, 'dkms', ['remove', label, '--all']);
};

/** Where DKMS puts modules below `/lib/modules/RELEASE`, by distribution. */
const DESTINATIONS = ['updates/dkms', 'extra', 'updates', 'extramodules', 'kernel/extra'];

const removeFiles = async (host: Host, source: DkmsSource, kernel: DkmsKernel): Promise<void> => {
  const label = `${source.name}/${source.version}`;
  if (kernel.originals.length > 0)
    throw new KilnError(
      'install-failed',
      `DKMS has put the kernel’s own ${kernel.originals.join(', ')} aside, and ${host.runsPrograms ? 'there is no dkms here to put it back; install dkms and run kiln import-dkms again' : `dkms puts it back; ${notRun(host, `dkms remove ${label} -k ${kernel.release}/${kernel.arch}`)}`}`,
    );
  const tree = join(host.root, source.layout.tree, source.name);
  const built = join(tree, source.version, kernel.release, kernel.arch);
  await modulesDirectory(host, kernel.release);
  const installed = join(source.layout.installTree, kernel.release);
  await mustLieInside(host, installed);
  const home = join(host.root, installed);
  await mustLieInside(
    host,
    `${source.layout.tree}/${source.name}/${source.version}/${kernel.release}`,
  );
  const copies: string[] = [];
  for (const file of kernel.isInstalled ? kernel.files : []) {
    const bytes = await readFile(join(built, 'module', file));
    for (const destination of DESTINATIONS) {
      await mustLieInside(host, join(installed, destination, file));
      const place = join(home, destination, file);
      // With symlink_modules it is a link into DKMS's tree, by its path on the host.
      const link = await readlink(place).catch(() => null);
      const isLinked =
        link !== null &&
        resolve('/', link) ===
          join(built, 'module', file).slice(host.root === '/' ? 0 : host.root.length);
      const copy = isLinked ? bytes : await readFile(place).catch(() => null);
      if (copy === null) continue;
      if (!copy.equals(bytes))
        throw new KilnError(
          'install-failed',
          `${place} is not what DKMS built for ${label}; look at it and remove it yourself`,
        );
      copies.push(place);
    }
  }
  for (const copy of copies) await rm(copy);
  if (kernel.isInstalled) await rm(join(tree, `kernel-${kernel.release}-${kernel.arch}`));
  await rm(built, { recursive: true });
  await rmdir(join(tree, source.version, kernel.release)).catch(() => {});
  await runDepmod(host, kernel.release);
  if ((await kernelsOf(tree, source.version)).length > 0) return;
  await rm(join(tree, source.version), { recursive: true });
  await rmdir(tree).catch(() => {});
};

const isThere = (path: string): Promise<boolean> =>
  lstat(path).then(
    () => true,
    () => false,
  );
