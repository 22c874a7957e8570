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
 * Changes of a host that happen whole or not at all, whatever fails and whenever the machine dies.
 *
 * All that is new is first written beside its place and all that is old gets a second name (`staging`). Then names change, each at once
 * (`applying`), depmod and the initramfs tool run, and one more rename of the journal says that it is `done`. Until then the second
 * names put all back, the indexes that depmod writes and the images included; after it they are dropped. What an ended process or a
 * power cut left half done, `recover` undoes or finishes from the journal alone.
 */

const JOURNAL = 'var/lib/kiln/journal.json';

const belowRoot = z
  .string()
  .regex(/^(lib\/modules|var\/lib\/kiln|boot|efi)\/[^\0]+$/)
  .refine((path) => !path.split('/').includes('..'));
const Journal = z.object({
  state: z.enum(['staging', 'applying', 'done']),
  title: z.string(),
  /** Every path that may change, and whether something was there. */
  paths: z.array(z.object({ path: belowRoot, had: z.boolean() })),
});
type Journal = z.infer<typeof Journal>;

/** What depmod writes in `/lib/modules/RELEASE`. */
const INDEXES = (
  'alias alias.bin builtin.alias.bin builtin.bin dep dep.bin ' +
  'devname softdep symbols symbols.bin weakdep'
)
  .split(' ')
  .map((name) => `modules.${name}`);

/** Makes all changes, or throws `install-failed` and leaves the host as it was. The caller holds the lock and has recovered. */
export const runTransaction = async (host: Host, transaction: Transaction): Promise<void> => {
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
    await transaction.check();
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
};

/** Undoes, or finishes, what an earlier process left half done; what it did, in words, or `null`. The caller holds the lock. */
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
    // Renaming one name of a file to another one of its names does nothing: the second name is still there.
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

/** Whether something was left half done, and what. Reads only. */
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

/** Makes a directory and those above it, each name of them on the disk. */
const makeDirectory = async (directory: string): Promise<void> => {
  const first = await mkdir(directory, { recursive: true, mode: 0o755 });
  if (first === undefined) return;
  for (let each = directory; each.length >= first.length; each = dirname(each))
    await syncPath(dirname(each));
};

/** A second name for what is there: another link to it, or a copy where the file system has no links (`/boot` on FAT). */
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

/** Refuses links in another root that lead out of it. */
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

/** What depmod was writing when it ended: it gives its files their names at the end, by renaming. */
const dropLeftovers = async (directory: string): Promise<void> => {
  for (const name of await readdir(directory).catch(() => []))
    if (/^modules\.[a-z.]+(\.\d+){3}$/.test(name)) await rm(join(directory, name), { force: true });
};

/** Directories that this client makes, or empties, are taken away with the last file in them. */
const OUR_OWN =
  /^(lib\/modules\/[^/]+\/(updates|weak-updates|extra)(\/.+)?|var\/lib\/kiln\/(receipts|displaced)(\/.+)?)$/;

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

/** The path that a failed call was for. */
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
