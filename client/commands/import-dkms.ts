import { readdir, readFile, stat } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { KilnError } from '../../services/core/errors.ts';
import { trustReaches } from '../../services/core/policy/policy.ts';
import type { SourceView } from '../../services/core/protocol/source.ts';
import {
  inspectSource,
  isSourceEvidence,
  type Settings,
} from '../../services/core/source/source.ts';
import { sendTree } from '../ask/ask.ts';
import { table, type Command, type Context } from '../command.ts';
import { readDkmsLayout, USUAL_LAYOUT, type DkmsLayout } from '../host/dkms-framework.ts';
import {
  dkmsSources,
  removeFromDkms,
  type DkmsKernel,
  type DkmsSource,
} from '../host/dkms-host.ts';
import { hostKernels, modulesDirectory, type Host } from '../host/host.ts';
import { forEverybody } from '../host/umask.ts';
import { collect } from '../ask/pack.ts';
import { readReceipt } from '../installed/receipts.ts';
import { scanFound, walk } from '../ask/tree.ts';

/** A module source that is wanted for a kernel. */
export interface Wish {
  readonly name: string;
  readonly version: string;
  readonly release: string;
}

/** Installs every wish that can be installed; `problem` says why one was not. */
export type InstallAll = (
  context: Context,
  wishes: readonly Wish[],
) => Promise<readonly (Wish & { readonly problem: string | null })[]>;

/** What became of a source that DKMS has for a kernel. */
export interface Taken extends Wish {
  readonly outcome: 'taken over' | 'would be taken over' | 'left to DKMS' | 'not in use';
  /** Why DKMS keeps it; `null` where it is, or would be, taken over. */
  readonly why: string | null;
}

/** A source that DKMS has for a kernel, while it is being taken over. */
interface Subject {
  readonly source: DkmsSource;
  readonly kernel: DkmsKernel;
}

/** `kiln import-dkms`. `installAll` installs what DKMS had. */
export const importDkms = (installAll: InstallAll): Command => ({
  name: 'import-dkms',
  args: '[NAME…]',
  summary: 'take over the modules that DKMS has installed on this host',
  help: `Each source is matched with the service's by name, version and bytes, or pushed (that takes a ci or admin token). Its
modules are installed for the kernels DKMS has them installed for, and only then are DKMS's copies removed, with dkms where it
is there. What cannot be taken over stays DKMS's, and is listed with why; then the exit status is 7. A package that brought a
source to DKMS (dpkg -S /usr/src/NAME-VERSION) stays installed and adds it again when it is updated: remove it yourself.

      --dry-run          only say what would be taken over
      --dkms-tree DIR    where DKMS keeps its modules, if not where /etc/dkms/framework.conf and its drop-ins say in plain
                         words (they are shell, and are not run)
      --root DIR         in another root`,
  options: { 'dry-run': { type: 'boolean' }, 'dkms-tree': { type: 'string' } },
  async run(context) {
    const host = await context.host();
    const layout = await layoutOf(context, host);
    const sources = await chosenSources(host, layout, context.args);
    if (layout.loads)
      context.progress.say(
        'DKMS loads what it installs here (modprobe_on_install); Kiln does not: modprobe a module that is to be used at once',
      );
    const results = await takeOver(context, host, sources, installAll);
    context.progress.done();
    context.print(
      results.length === 0
        ? `DKMS has installed nothing here: there is nothing in ${layout.tree}`
        : table(
            results.map(({ name, version, release, outcome, why }) => [
              `${name}/${version}`,
              release,
              why === null ? outcome : `${outcome}: ${why}`,
            ]),
          ),
      results,
    );
    const left = results.filter(({ outcome }) => outcome === 'left to DKMS').length;
    if (left > 0 && !context.flag('dry-run'))
      throw new KilnError(
        'install-failed',
        `${left} of ${results.length} were left to DKMS; mend what is said of them and run kiln import-dkms again`,
      );
  },
});

/** DKMS's directories, from the command line or else from the host's own settings. */
const layoutOf = async (context: Context, host: Host): Promise<DkmsLayout> => {
  const tree = context.option('dkms-tree');
  if (tree === undefined) return readDkmsLayout(host);
  if (!isAbsolute(tree))
    throw new KilnError('bad-request', '--dkms-tree takes an absolute path, as the host has it');
  return { ...USUAL_LAYOUT, tree };
};

const chosenSources = async (
  host: Host,
  layout: DkmsLayout,
  names: readonly string[],
): Promise<readonly DkmsSource[]> => {
  const sources = await dkmsSources(host, layout);
  const unknown = names.find((name) => !sources.some((source) => source.name === name));
  if (unknown !== undefined)
    throw new KilnError('not-found', `DKMS has no ${unknown} here; dkms status lists what it has`);
  return sources.filter(({ name }) => names.length === 0 || names.includes(name));
};

const takeOver = async (
  context: Context,
  host: Host,
  sources: readonly DkmsSource[],
  installAll: InstallAll,
): Promise<readonly Taken[]> => {
  const present = new Set(await hostKernels(host));
  const reasons = new Map<Subject, string>();
  const subjects: Subject[] = [];
  const published = sources.length === 0 ? [] : await context.service.sources();
  for (const source of sources) {
    const ours = source.kernels.map((kernel): Subject => ({ source, kernel }));
    subjects.push(...ours);
    const wanted = ours.filter((subject) => whyNotInUse(subject, present) === null);
    if (wanted.length === 0) continue;
    const problem = await sourceProblem(context, host, source, published);
    if (problem !== null) for (const subject of wanted) reasons.set(subject, problem);
  }
  const able = subjects.filter(
    (subject) => whyNotInUse(subject, present) === null && !reasons.has(subject),
  );
  const isDryRun = context.flag('dry-run');
  if (!isDryRun && able.length > 0) {
    const installed = await installAll(context, able.map(wishOf));
    for (const subject of able) {
      const problem = installProblem(subject, installed) ?? (await removalProblem(host, subject));
      if (problem !== null) reasons.set(subject, problem);
    }
  }
  const done = isDryRun ? 'would be taken over' : 'taken over';
  return subjects.map((subject) => {
    const unused = whyNotInUse(subject, present);
    if (unused !== null) return { ...wishOf(subject), outcome: 'not in use', why: unused };
    const why = reasons.get(subject) ?? null;
    return { ...wishOf(subject), outcome: why === null ? done : 'left to DKMS', why };
  });
};

const wishOf = ({ source, kernel }: Subject): Wish => ({
  name: source.name,
  version: source.version,
  release: kernel.release,
});

/** Why nothing is installed for a kernel, or `null`. What DKMS has built for it then stays as it is. */
const whyNotInUse = ({ source, kernel }: Subject, present: ReadonlySet<string>): string | null => {
  const removal = `dkms remove ${source.name}/${source.version} -k ${kernel.release} removes it`;
  if (!present.has(kernel.release)) return `that kernel is not on this host any more; ${removal}`;
  return kernel.isInstalled ? null : `it was built, but not installed; ${removal}`;
};

/** Pushes a source to the service unless it is there as it is here; the reason where that fails, else `null`. */
const sourceProblem = async (
  context: Context,
  host: Host,
  source: DkmsSource,
  published: readonly SourceView[],
): Promise<string | null> => {
  const label = `${source.name}/${source.version}`;
  if (source.directory === null)
    return 'its source is gone; install the package that brought it again';
  try {
    context.progress.step(`reading ${label}`);
    const settings = await settingsOf(host, source);
    const known = published.find(
      ({ name, version }) => name === source.name && version === source.version,
    );
    const scan = await scanFound(
      await collect(walk(source.directory)),
      isSourceEvidence,
      context.signal,
    );
    const here = inspectSource(scan, { name: source.name, version: source.version, settings });
    if (known !== undefined) {
      if (known.tree !== here.source.tree)
        return `the service’s ${label} has other bytes than ${source.directory}; push that under a version of its own, or install the service’s with kiln install ${label}`;
      return haveSameSettings(known.settings, settings)
        ? null
        : `the service’s ${label} has other settings than this host’s /etc/dkms; kiln install ${label} takes it as the service has it`;
    }
    if (context.flag('dry-run')) return null;
    const { blob } = await sendTree(context, [source.directory], label);
    const pushed = await context.service.createSource(blob, {
      name: source.name,
      version: source.version,
      settings,
    });
    return trustReaches(pushed.trust, 'ci')
      ? null
      : `the service does not have it, and this host’s token may not publish a source; have an admin run kiln source push ${source.directory}, or give a ci or admin token (--token-file)`;
  } catch (error) {
    if (error instanceof KilnError && error.code !== 'unreachable') return error.message;
    throw error;
  }
};

/** The host's own settings files for a source, which stand over its `dkms.conf` (source: dkms(8), `read_conf`). */
const settingsOf = async (host: Host, source: DkmsSource): Promise<Settings> => {
  const directory = join(host.root, 'etc/dkms');
  const names = (await readdir(directory).catch(() => [])).filter(
    (name) =>
      name === `${source.name}.conf` ||
      name === `${source.name}-${source.version}.conf` ||
      (name.startsWith(`${source.name}-${source.version}-`) && name.endsWith('.conf')),
  );
  const settings: Record<string, string> = {};
  for (const name of names.sort())
    if (await isFile(join(directory, name)))
      settings[`/etc/dkms/${name}`] = await readFile(join(directory, name), 'utf8');
  return settings;
};

const haveSameSettings = (a: Settings, b: Settings): boolean =>
  Object.keys(b).every((path) => a[path] === b[path]);

const installProblem = (
  subject: Subject,
  installed: readonly (Wish & { readonly problem: string | null })[],
): string | null => {
  const wish = wishOf(subject);
  const result = installed.find(
    (each) =>
      each.name === wish.name && each.version === wish.version && each.release === wish.release,
  );
  return result === undefined ? 'it was not installed' : result.problem;
};

/** Removes DKMS's copies once Kiln's are in place; the reason where that fails, else `null`. */
const removalProblem = async (host: Host, { source, kernel }: Subject): Promise<string | null> => {
  const receipt = await readReceipt(host, kernel.release, source.name).catch(() => null);
  if (receipt === null || receipt.version !== source.version)
    return 'Kiln has no receipt of it, so DKMS’s copies were left';
  const home = await modulesDirectory(host, kernel.release);
  for (const { path } of receipt.modules)
    if (!(await isFile(join(home, path))))
      return `Kiln’s ${path} is not in place, so DKMS’s copies were left`;
  try {
    await forEverybody(() => removeFromDkms(host, source, kernel));
    return null;
  } catch (error) {
    if (error instanceof KilnError)
      return `Kiln’s modules are in place, but DKMS’s are, too: ${error.message}`;
    throw error;
  }
};

const isFile = (path: string): Promise<boolean> =>
  stat(path).then(
    (stats) => stats.isFile(),
    () => false,
  );
