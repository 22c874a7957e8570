import { constants } from 'node:fs';
import {
  copyFile,
  link,
  lstat,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  rmdir,
  symlink,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { hasErrno, KilnError } from '../../services/core/errors.ts';
import { runDepmod } from '../host/depmod.ts';
import { mustLieInside, placeToChange, placeToRead, type Host } from '../host/host.ts';
import { refusedWrite } from '../host/writable.ts';
import type { Change, Transaction } from './change.ts';
import { keepPrevious, settlePrevious } from './previous.ts';
import { syncPath, writeSynced, writeWhole } from './whole-file.ts';

/**
 * Transactions: changes of a host that happen completely or not at all, whatever fails and whenever the machine dies.
 *
 * First every new file is written beside its place, and every old file gets a second name (`staging`). Then files are renamed into place,
 * each atomically (`applying`), and depmod and the initramfs tool run. One more rename, of the journal, marks the transaction `done`.
 * Before that, the second names allow all to be put back, depmod's indexes and the images included; afterwards they are removed. Where
 * a crash or a power cut interrupts a transaction, `recover` undoes or finishes it from the journal alone.
 */

const JOURNAL = 'var/lib/kiln/journal.json';

/** Places of modules, of what sources bring beside them, of what we keep, of images; and what dkms's tree, wherever it is, has of an installation. */
const PLACES =
  /^(?:(?:lib\/modules|lib\/firmware\/updates|lib\/udev\/rules\.d|lib\/(?:modprobe|depmod|modules-load)\.d|var\/lib\/kiln|boot|efi)\/[^\0]+|[^\0]+\/(?:kernel-[^/\0]+|original_module\/[^\0]+))$/;
const belowRoot = z
  .string()
  .regex(PLACES)
  .refine((path) => !path.split('/').includes('..'));
const Journal = z.object({
  state: z.enum(['staging', 'applying', 'done']),
  title: z.string(),
  /** Every path that may change, and whether something was there. */
  paths: z.array(z.object({ path: belowRoot, had: z.boolean() })),
});
type Journal = z.infer<typeof Journal>;

/** The files that depmod writes in `/lib/modules/RELEASE`. */
const INDEXES = (
  'alias alias.bin builtin.alias.bin builtin.bin dep dep.bin ' +
  'devname softdep symbols symbols.bin weakdep'
)
  .split(' ')
  .map((name) => `modules.${name}`);

/**
 * Makes all changes and gives `null`. `refuse` looks at the indexes that depmod made; what else than `null` it gives is given back, with
 * all undone. Throws `install-failed`, with all undone. The caller holds the lock and has recovered.
 */
export const runTransaction = async <Refusal = never>(
  host: Host,
  transaction: Transaction,
  refuse: () => Promise<Refusal | null> = async () => null,
): Promise<Refusal | null> => {
  const { changes, releases, images, title } = transaction;
  const at = (path: string): string => join(host.root, path);
  const written = [
    ...releases.flatMap((release) => INDEXES.map((name) => `lib/modules/${release}/${name}`)),
    ...images.map(({ path }) => path),
  ];
  const paths = await Promise.all(
    [...changes.map(({ path }) => path), ...written].map(async (path) => ({
      path: belowRoot.parse(path),
      had: await isThere(at(path)),
    })),
  );
  await allLieInside(host, paths);
  const journal = { title, paths };
  try {
    await writeJournal(host, { ...journal, state: 'staging' });
    for (const { path, to } of changes) await stage(at(path), to);
    for (const { path, had } of paths) if (had) await giveSecondName(at(path));
    await syncDirectories(host, paths);
    await keepPrevious(host, transaction, paths);
    await writeJournal(host, { ...journal, state: 'applying' });
    for (const { path, to } of changes) {
      if (to === null) await rm(at(path), { force: true });
      else await rename(`${at(path)}.kiln-new`, at(path));
    }
    for (const release of releases) await runDepmod(host, release);
    const refusal = await refuse();
    if (refusal !== null) {
      await recover(host);
      return refusal;
    }
    for (const image of images) await image.refresh();
    for (const path of written) if (await isThere(at(path))) await syncPath(at(path));
    await syncDirectories(host, paths);
    await writeJournal(host, { ...journal, state: 'done' });
  } catch (error) {
    const isDone = (await readJournal(host).catch(() => null))?.state === 'done';
    const undone = await recover(host).then(
      () => (isDone ? 'all was changed before that' : 'nothing was changed'),
      () => 'and what was begun could not be undone; run kiln recover when the cause is gone',
    );
    throw asInstallError(error, undone);
  }
  await recover(host).catch((error: unknown) => {
    throw asInstallError(error, 'all was changed; kiln recover drops what was kept for undoing it');
  });
  return null;
};

/** Undoes or finishes a transaction that was interrupted. Gives a sentence that says which, or `null` if there was none. The caller holds the lock. */
export const recover = async (host: Host): Promise<string | null> => {
  await rm(await placeToChange(host, `${JOURNAL}.kiln-new`), { force: true });
  const journal = await readJournal(host);
  if (journal === null) return null;
  await allLieInside(host, journal.paths);
  const at = (path: string): string => join(host.root, path);
  const isDone = journal.state === 'done';
  if (journal.state === 'applying') {
    for (const { path, had } of journal.paths.toReversed()) {
      if (!had) await rm(at(path), { force: true });
      else if (await isThere(`${at(path)}.kiln-old`))
        await rename(`${at(path)}.kiln-old`, at(path));
    }
  }
  for (const { path } of journal.paths) {
    // rename(2) does nothing where both names are of one file, so the second name may still be there.
    await rm(`${at(path)}.kiln-old`, { force: true });
    await rm(`${at(path)}.kiln-new`, { force: true });
  }
  for (const directory of new Set(journal.paths.map(({ path }) => dirname(path))))
    await dropLeftovers(at(directory));
  await settlePrevious(host, isDone);
  await syncDirectories(host, journal.paths);
  for (const { path } of journal.paths) await dropEmptyDirectories(host, dirname(path));
  await rm(at(JOURNAL), { force: true });
  await syncPath(dirname(at(JOURNAL)));
  return `${isDone ? 'finished' : 'undid'} what was interrupted: ${journal.title}`;
};

/** The title of a transaction that was interrupted, or `null`. Changes nothing. */
export const interrupted = async (host: Host): Promise<string | null> =>
  (await readJournal(host))?.title ?? null;

const readJournal = async (host: Host): Promise<Journal | null> => {
  const path = await placeToRead(host, JOURNAL);
  try {
    return Journal.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (cause) {
    if (hasErrno(cause, 'ENOENT')) return null;
    throw new KilnError(
      'install-failed',
      `${path} is damaged, so what was interrupted cannot be undone; remove it and install again`,
      { cause },
    );
  }
};

const writeJournal = async (host: Host, journal: Journal): Promise<void> => {
  const path = await placeToChange(host, JOURNAL);
  await mkdir(dirname(path), { recursive: true, mode: 0o755 });
  await writeWhole(path, Buffer.from(JSON.stringify(journal)));
};

const stage = async (place: string, to: Change['to']): Promise<void> => {
  if (to === null) return;
  await makeDirectory(dirname(place));
  const arrival = `${place}.kiln-new`;
  await rm(arrival, { force: true });
  if (Buffer.isBuffer(to)) await writeSynced(arrival, to);
  else await symlink(to.link, arrival);
};

/** Makes a directory and those above it, and waits until their names are on the disk. */
const makeDirectory = async (directory: string): Promise<void> => {
  const first = await mkdir(directory, { recursive: true, mode: 0o755 });
  if (first === undefined) return;
  for (let each = directory; each.length >= first.length; each = dirname(each))
    await syncPath(dirname(each));
};

/** Gives a file a second name: a hard link, or a copy where the file system has no links (`/boot` on FAT). */
const giveSecondName = async (place: string): Promise<void> => {
  const second = `${place}.kiln-old`;
  await rm(second, { force: true });
  try {
    await link(place, second);
  } catch (error) {
    if (!hasErrno(error, 'EPERM') && !hasErrno(error, 'ENOTSUP')) throw error;
    await copyFile(place, second, constants.COPYFILE_EXCL);
    await syncPath(second);
  }
};

/** Throws where a link leads a change out of the host's root. */
const allLieInside = async (
  host: Host,
  paths: readonly { readonly path: string }[],
): Promise<void> => {
  for (const directory of new Set(paths.map(({ path }) => dirname(path))))
    await mustLieInside(host, directory);
};

const syncDirectories = async (
  host: Host,
  changed: readonly { readonly path: string }[],
): Promise<void> => {
  for (const directory of new Set(changed.map(({ path }) => dirname(path)))) {
    const place = join(host.root, directory);
    if (await isThere(place)) await syncPath(place);
  }
};

/** Removes temporary files of a depmod that was interrupted: it writes under other names and renames at the end. */
const dropLeftovers = async (directory: string): Promise<void> => {
  for (const name of await readdir(directory).catch(() => []))
    if (/^modules\.[a-z.]+(\.\d+){3}$/.test(name)) await rm(join(directory, name), { force: true });
};

/** Directories that this client makes or empties, and removes with the last file in them. */
const OUR_OWN =
  /^(lib\/modules\/[^/]+\/(updates|weak-updates|extra)(\/.+)?|lib\/firmware\/updates(\/.+)?|var\/lib\/kiln\/(receipts|displaced)(\/.+)?|.+\/original_module(\/.+)?)$/;

const dropEmptyDirectories = async (host: Host, directory: string): Promise<void> => {
  for (let each = directory; OUR_OWN.test(each); each = dirname(each)) {
    const isGone = await rmdir(join(host.root, each)).then(
      () => true,
      (error: unknown) => hasErrno(error, 'ENOENT'),
    );
    if (!isGone) return;
  }
};

const isThere = async (path: string): Promise<boolean> =>
  lstat(path).then(
    () => true,
    (error: unknown) => {
      if (hasErrno(error, 'ENOENT') || hasErrno(error, 'ENOTDIR')) return false;
      throw error;
    },
  );

/** The path in a failed system call's error. */
const placeOf = (error: unknown): string | null =>
  error instanceof Error && 'path' in error && typeof error.path === 'string' ? error.path : null;

const asInstallError = (error: unknown, outcome: string): KilnError => {
  const message = error instanceof Error ? error.message : String(error);
  const code = error instanceof KilnError ? error.code : 'install-failed';
  if (hasErrno(error, 'ENOSPC'))
    return new KilnError('install-failed', `the disk is full; ${outcome}`, { cause: error });
  const refused = refusedWrite(error, placeOf(error) ?? 'this host');
  if (refused !== null)
    return new KilnError('install-failed', `${refused}; ${outcome}`, { cause: error });
  return new KilnError(code, `${message}; ${outcome}`, { cause: error });
};
