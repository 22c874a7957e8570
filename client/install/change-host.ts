import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { KilnError } from '../../services/core/errors.ts';
import type { Change, Image } from '../transaction/change.ts';
import type { Context } from '../command.ts';
import { hostKernels, type Host } from '../host/host.ts';
import { initramfsOf, refreshInitramfs } from '../host/initramfs.ts';
import { moduleNameOf } from '../../services/core/module/module-name.ts';
import { releasesOf } from './plan.ts';
import { keepDefault } from '../installed/boot-guard.ts';
import type { Receipt } from '../installed/receipts.ts';
import { incomplete } from '../installed/standing.ts';
import { recover, runTransaction } from '../transaction/transaction.ts';
import { tellWeakModules } from './weak-modules.ts';

/** Recovers a transaction that was interrupted (`recover`) and tells the user. The caller holds the lock. */
export const recoverAloud = async (context: Context, host: Host): Promise<string | null> => {
  const words = await recover(host);
  if (words !== null) context.progress.say(words);
  return words;
};

/** A receipt of which depmod would load another module than was laid down, and the error that says so. */
export interface PassedOver {
  readonly receipt: Receipt;
  readonly problem: KilnError;
}

/**
 * Runs a transaction and makes the initramfs images that it concerns. Where depmod passes over a module of `laid`, gives which, and
 * all is undone; else `null`. Throws `install-failed`, with all undone.
 */
export const changeHost = async (
  context: Context,
  host: Host,
  given: {
    readonly title: string;
    readonly changes: readonly Change[];
    /** The receipts whose modules modprobe must find afterwards. */
    readonly laid: readonly Receipt[];
    readonly taken: readonly Receipt[];
    readonly initramfs: boolean;
  },
): Promise<PassedOver | null> => {
  const changes = lastWord(given.changes);
  const releases = await present(host, releasesOf(changes));
  const images: Image[] = [];
  const byHand: string[] = [];
  for (const release of given.initramfs ? releases : []) {
    const names = [
      ...[...given.laid, ...given.taken]
        .filter((receipt) => receipt.release === release)
        .flatMap((receipt) => receipt.modules.map(({ modname }) => modname)),
      ...changes
        .filter(({ path }) => path.startsWith(`lib/modules/${release}/`))
        .map(({ path }) => moduleNameOf(path)),
    ];
    const concerned = await imagesWith(context, host, release, names);
    images.push(...concerned.images);
    byHand.push(...concerned.byHand);
  }
  const { title, laid } = given;
  context.progress.step(title);
  const passedOver = await runTransaction(host, { title, changes, releases, images }, () =>
    findPassedOver(host, laid),
  );
  if (passedOver !== null) return passedOver;
  for (const words of byHand) context.progress.say(words);
  if (context.config.weakUpdates) await followLinks(context, host, changes, given.initramfs);
  await followGuard(context, host);
  context.progress.done();
  return null;
};

/**
 * Where the configuration has guard = yes: sets the boot loader's default by the modules that kernels have now. A failure is only
 * printed, as the installation itself is done.
 */
export const followGuard = async (context: Context, host: Host): Promise<void> => {
  if (!context.config.guard) return;
  try {
    const { text, isSet } = await keepDefault(host, incomplete);
    if (isSet) context.progress.say(text);
  } catch (error) {
    if (!(error instanceof KilnError)) throw error;
    context.progress.say(`kiln guard did nothing: ${error.message}`);
  }
};

/** A kernel's images that hold or should hold one of the modules: those to make anew here, and a warning for each that only the admin can. */
const imagesWith = async (
  context: Context,
  host: Host,
  release: string,
  names: readonly string[],
): Promise<{ readonly images: readonly Image[]; readonly byHand: readonly string[] }> => {
  const { tool, images: found } = await initramfsOf(host, release);
  const images: Image[] = [];
  const byHand: string[] = [];
  for (const image of names.length === 0 ? [] : found) {
    if (!(await image.holds(names))) continue;
    const { path } = image;
    if (image.byHand !== null || tool === null) {
      byHand.push(
        `warning: ${path}, which kernel ${release} starts with, may hold other modules than are installed now; make it anew: ${image.byHand ?? ''}`,
      );
      continue;
    }
    const refresh = (): Promise<void> => {
      context.progress.step(`making the initramfs of ${release} anew`);
      return refreshInitramfs(host, release, { tool, path });
    };
    images.push({ path: path.slice(1), refresh });
  }
  return { images, byHand };
};

/** Tells `weak-modules`, and makes the images of kernels whose links it changed. A failure is only printed, as the installation itself is done. */
const followLinks = async (
  context: Context,
  host: Host,
  changes: readonly Change[],
  initramfs: boolean,
): Promise<void> => {
  try {
    const differing = await tellWeakModules(context, host, changes);
    for (const [release, names] of initramfs ? differing : []) {
      const { images, byHand } = await imagesWith(context, host, release, names);
      for (const image of images) await image.refresh();
      for (const words of byHand) context.progress.say(words);
    }
  } catch (error) {
    if (!(error instanceof KilnError)) throw error;
    context.progress.say(`warning: ${error.message}; what was asked for is in place`);
  }
};

/** The changes with only the last one for each path. */
const lastWord = (changes: readonly Change[]): readonly Change[] => [
  ...new Map(changes.map((each) => [each.path, each])).values(),
];

/** Those of the kernels that are still on the host. */
const present = async (host: Host, releases: readonly string[]): Promise<readonly string[]> => {
  const kernels = await hostKernels(host);
  return releases.filter((release) => kernels.includes(release));
};

const INDEX_LIMIT = 64 * 1024 ** 2;

/** The first receipt that depmod's index leads away from, as another search order (depmod.d(5)) may, or `null`. */
const findPassedOver = async (host: Host, laid: readonly Receipt[]): Promise<PassedOver | null> => {
  for (const receipt of laid) {
    const { release, modules } = receipt;
    const index = join(host.root, 'lib/modules', release, 'modules.dep');
    const { size } = await stat(index);
    if (size > INDEX_LIMIT) throw new KilnError('install-failed', `${index} is over 64 MiB`);
    const paths = new Set(
      (await readFile(index, 'utf8')).split('\n').map((line) => line.split(':')[0]),
    );
    const missing = modules.find(({ path }) => !paths.has(path));
    if (missing === undefined) continue;
    const words = `depmod prefers another ${missing.modname} to ${missing.path}: put "search updates built-in" into a file in /etc/depmod.d`;
    return { receipt, problem: new KilnError('install-failed', words) };
  }
  return null;
};
