import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Digest } from '../../services/core/digest.ts';
import { KilnError } from '../../services/core/errors.ts';
import { offerDkmsSource } from '../ask/dkms-source.ts';
import type { Context } from '../command.ts';
import { removeFromDkms, type DkmsKernel, type DkmsSource } from '../host/dkms-host.ts';
import { hostKernel, hostKernels, modulesDirectory, type Host } from '../host/host.ts';
import { forEverybody } from '../host/umask.ts';
import { readReceipt } from '../installed/receipts.ts';
import { installAll } from './install.ts';
import type { Granted, InstallTerms, Wish } from './wish.ts';

/** A source that DKMS has for a kernel, and by which digest the service has it, if it does. */
interface Subject {
  readonly source: DkmsSource;
  readonly kernel: DkmsKernel;
  readonly digest: Digest | null;
}

/** What became of a source that DKMS has for a kernel. */
export interface Taken {
  readonly name: string;
  readonly version: string;
  readonly release: string;
  readonly outcome: 'taken over' | 'would be taken over' | 'left to DKMS' | 'not in use';
  /** Why DKMS keeps it; `null` where it is, or would be, taken over. */
  readonly why: string | null;
}

/**
 * Takes over what DKMS has installed: Kiln's modules come first, then DKMS's copies go; later kernels follow the newest version, as with
 * DKMS. `terms` is asked for the terms of the installation where something can be taken over; `null` only looks.
 */
export const takeOver = async (
  context: Context,
  host: Host,
  sources: readonly DkmsSource[],
  terms: (() => Promise<InstallTerms>) | null,
): Promise<readonly Taken[]> => {
  const judged = await judgeAll(context, host, sources, terms === null);
  const able = judged.flatMap(({ subject, kept }) => (kept === null ? [subject] : []));
  const granted =
    terms === null || able.length === 0
      ? []
      : await installInPlace(context, host, able, await terms());
  const taken: Taken[] = [];
  for (const { subject, kept } of judged) {
    const { name, version } = subject.source;
    const { release } = subject.kernel;
    const what = { name, version, release };
    if (kept !== null) taken.push({ ...what, ...kept });
    else if (terms === null) taken.push({ ...what, outcome: 'would be taken over', why: null });
    else {
      const why = await replacementProblem(host, subject, granted);
      taken.push({ ...what, outcome: why === null ? 'taken over' : 'left to DKMS', why });
    }
  }
  return taken;
};

/** A source that DKMS has for a kernel, and why DKMS keeps it; `null` where Kiln can have it. */
interface Judged {
  readonly subject: Subject;
  readonly kept: Pick<Taken, 'outcome' | 'why'> | null;
}

/** What can be taken over. The service is given the sources that it lacks, unless this is a dry run. */
const judgeAll = async (
  context: Context,
  host: Host,
  sources: readonly DkmsSource[],
  isDryRun: boolean,
): Promise<readonly Judged[]> => {
  const present = await hostKernels(host);
  const judged: Judged[] = [];
  for (const source of sources) {
    const uses = source.kernels.map((kernel) => ({
      kernel,
      unused: whyNotInUse(source, kernel, present),
    }));
    const offered = uses.some(({ unused }) => unused === null)
      ? await offerDkmsSource(context, host, source, isDryRun)
      : { digest: null };
    const digest = 'digest' in offered ? offered.digest : null;
    for (const { kernel, unused } of uses) {
      const subject = { source, kernel, digest };
      if (unused !== null) judged.push({ subject, kept: { outcome: 'not in use', why: unused } });
      else if ('problem' in offered)
        judged.push({ subject, kept: { outcome: 'left to DKMS', why: offered.problem } });
      else judged.push({ subject, kept: null });
    }
  }
  return judged;
};

/** Why nothing is installed for a kernel, or `null`. What DKMS has built for it then stays as it is. */
const whyNotInUse = (
  source: DkmsSource,
  kernel: DkmsKernel,
  present: readonly string[],
): string | null => {
  const removal = `dkms remove ${source.name}/${source.version} -k ${kernel.release} removes it`;
  if (!present.includes(kernel.release))
    return `that kernel is not on this host any more; ${removal}`;
  return kernel.isInstalled ? null : `it was built, but not installed; ${removal}`;
};

/** Installs what DKMS had. DKMS's copies are moved aside meanwhile, and do not come back. */
const installInPlace = async (
  context: Context,
  host: Host,
  subjects: readonly Subject[],
  terms: InstallTerms,
): Promise<readonly Granted[]> => {
  const wishes: Wish[] = [];
  for (const { source, kernel, digest } of subjects) {
    const { name, version } = source;
    const { release } = kernel;
    const request = {
      source: digest === null ? { name, version } : { digest },
      kernel: await hostKernel(host, release),
    };
    wishes.push({ name, release, request, mayGoDown: false });
  }
  const names = new Set(subjects.map(({ source }) => source.name));
  const how = { waive: [], settings: {} };
  const wanted = [...names].map((name) => ({ name, version: null, how }));
  return installAll(context, host, wishes, { ...terms, wanted, keepDisplaced: false });
};

/** Why DKMS's copies are still there, or `null` where Kiln's modules have replaced them. */
const replacementProblem = async (
  host: Host,
  subject: Subject,
  granted: readonly Granted[],
): Promise<string | null> => {
  const { source, kernel } = subject;
  const result = granted.find(
    ({ name, release }) => name === source.name && release === kernel.release,
  );
  if (result === undefined) return 'it was not tried';
  return result.problem?.message ?? (await removalProblem(host, subject));
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
