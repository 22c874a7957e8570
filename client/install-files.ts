import { link, mkdir, open, readFile, rename, rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { digestOf } from '../services/core/digest.ts';
import { hasErrno, KilnError } from '../services/core/errors.ts';
import { modulesDirectory, runDepmod, type Host } from './host.ts';
import {
  listReceipts,
  readReceipt,
  removeReceipt,
  writeReceipt,
  writeWhole,
  type Receipt,
} from './receipts.ts';

/** Where modules go below `/lib/modules/RELEASE`: depmod prefers `updates/` over what came with the kernel. */
export const INSTALL_DIRECTORY = 'updates/kiln';

/** A verified module, to be laid down. */
export interface ModuleBytes {
  readonly name: string;
  readonly bytes: Buffer;
}

/** What undoes a step that was taken. */
type Undo = () => Promise<void>;

/**
 * Lays verified modules down: each written beside and renamed into place, then one depmod, then the receipt. If any of it fails,
 * all is put back as it was and depmod is run again; throws `install-failed`.
 */
export const installFiles = async (
  host: Host,
  receipt: Receipt,
  modules: readonly ModuleBytes[],
): Promise<void> => {
  const home = await modulesDirectory(host, receipt.release);
  const directory = join(home, INSTALL_DIRECTORY);
  const undo: Undo[] = [];
  // A damaged receipt is mended by the new one.
  const before = await readReceipt(host, receipt.release, receipt.name).catch(() => null);
  await refuseTaken(host, receipt);
  try {
    await mkdir(directory, { recursive: true, mode: 0o755 });
    for (const { name, bytes } of modules)
      undo.push(await replaceFile(join(directory, `${name}.ko`), bytes));
    for (const { path } of before?.modules ?? []) {
      const isKept = receipt.modules.some((module) => module.path === path);
      if (!isKept) undo.push(await takeAway(join(home, path)));
    }
    await syncDirectory(directory);
    await runDepmod(host, receipt.release);
    await writeReceipt(host, receipt);
  } catch (error) {
    await undoAll(undo);
    await rmdir(directory).catch(() => {});
    if (undo.length > 0) await runDepmod(host, receipt.release).catch(() => {});
    throw asInstallError(error, 'nothing was installed');
  }
  await dropOldFiles(directory, modules, before, home);
};

/** Takes an installed source's modules away, runs depmod, and removes the receipt; or leaves all as it was. */
export const removeFiles = async (host: Host, receipt: Receipt): Promise<void> => {
  const home = await modulesDirectory(host, receipt.release);
  const undo: Undo[] = [];
  try {
    for (const { path, digest } of receipt.modules) {
      if (await isOurs(join(home, path), digest)) undo.push(await takeAway(join(home, path)));
    }
    await runDepmod(host, receipt.release);
    await removeReceipt(host, receipt);
  } catch (error) {
    await undoAll(undo);
    await runDepmod(host, receipt.release).catch(() => {});
    throw asInstallError(error, 'nothing was removed');
  }
  for (const { path } of receipt.modules) await rm(`${join(home, path)}.kiln-old`, { force: true });
  await rmdir(join(home, INSTALL_DIRECTORY)).catch(() => {});
};

/** Two sources may make a module of one name; the second may not take the first's place unseen. */
const refuseTaken = async (host: Host, receipt: Receipt): Promise<void> => {
  const paths = new Set(receipt.modules.map(({ path }) => path));
  for (const other of (await listReceipts(host)).receipts) {
    if (other.release !== receipt.release || other.name === receipt.name) continue;
    const taken = other.modules.find(({ path }) => paths.has(path));
    if (taken === undefined) continue;
    throw new KilnError(
      'install-failed',
      `${taken.name}.ko is already installed from ${other.name}/${other.version}; remove that first (kiln remove ${other.name} -k ${other.release})`,
    );
  }
};

/** Whether a file still is what was installed; what somebody else has put there since is left alone. */
const isOurs = async (path: string, digest: string): Promise<boolean> => {
  const bytes = await readFile(path).catch(() => null);
  return bytes !== null && digestOf(bytes) === digest;
};

const replaceFile = async (path: string, bytes: Buffer): Promise<Undo> => {
  const old = `${path}.kiln-old`;
  await rm(old, { force: true });
  const hadOne = await link(path, old).then(
    () => true,
    (error: unknown) => {
      if (hasErrno(error, 'ENOENT')) return false;
      throw error;
    },
  );
  await writeWhole(path, bytes);
  return () => (hadOne ? rename(old, path) : rm(path, { force: true }));
};

const takeAway = async (path: string): Promise<Undo> => {
  const isGone = await rename(path, `${path}.kiln-old`).then(
    () => false,
    (error: unknown) => {
      if (hasErrno(error, 'ENOENT')) return true;
      throw error;
    },
  );
  return async () => {
    if (!isGone) await rename(`${path}.kiln-old`, path);
  };
};

const undoAll = async (undo: readonly Undo[]): Promise<void> => {
  for (const step of undo.toReversed()) await step();
};

const dropOldFiles = async (
  directory: string,
  modules: readonly ModuleBytes[],
  before: Receipt | null,
  home: string,
): Promise<void> => {
  for (const { name } of modules) await rm(join(directory, `${name}.ko.kiln-old`), { force: true });
  for (const { path } of before?.modules ?? [])
    await rm(`${join(home, path)}.kiln-old`, { force: true });
};

const syncDirectory = async (directory: string): Promise<void> => {
  for (const path of [directory, dirname(directory)]) {
    const handle = await open(path, 'r');
    await handle.sync();
    await handle.close();
  }
};

const asInstallError = (error: unknown, outcome: string): KilnError => {
  const message = error instanceof Error ? error.message : String(error);
  if (hasErrno(error, 'ENOSPC'))
    return new KilnError('install-failed', `the disk is full; ${outcome}`, { cause: error });
  if (hasErrno(error, 'EACCES') || hasErrno(error, 'EPERM') || hasErrno(error, 'EROFS')) {
    return new KilnError(
      'install-failed',
      `no permission to write below /lib/modules (${message}); run kiln as root; ${outcome}`,
      { cause: error },
    );
  }
  return new KilnError('install-failed', `${message}; ${outcome}`, { cause: error });
};
