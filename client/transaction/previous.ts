import { constants } from 'node:fs';
import { copyFile, lstat, mkdir, readFile, readlink, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { hasErrno, KilnError } from '../../services/core/errors.ts';
import { placeToChange, placeToRead, type Host } from '../host/host.ts';
import type { Change, Transaction } from './change.ts';
import { syncPath, writeWhole } from './whole-file.ts';

/** The directory with what the last transaction replaced, for `kiln rollback`: an inverse transaction and the files that it needs. */
const PREVIOUS = 'var/lib/kiln/previous';
const ARRIVING = `${PREVIOUS}.kiln-new`;

const Previous = z.object({
  title: z.string(),
  at: z.number(),
  releases: z.array(z.string()),
  was: z.array(
    z.object({
      path: z.string(),
      to: z.union([z.null(), z.object({ link: z.string() }), z.object({ file: z.number() })]),
    }),
  ),
});

/** Copies the files that a transaction will change, before it does. */
export const keepPrevious = async (
  host: Host,
  { title, changes, releases }: Pick<Transaction, 'title' | 'changes' | 'releases'>,
  paths: readonly { readonly path: string; readonly had: boolean }[],
): Promise<void> => {
  const place = await placeToChange(host, ARRIVING);
  await rm(place, { recursive: true, force: true });
  await mkdir(place, { recursive: true, mode: 0o700 });
  const was: z.infer<typeof Previous>['was'] = [];
  for (const [index, { path }] of changes.entries()) {
    const from = await placeToChange(host, path);
    if (paths[index]?.had !== true) {
      was.push({ path, to: null });
    } else if ((await lstat(from)).isSymbolicLink()) {
      was.push({ path, to: { link: await readlink(from) } });
    } else {
      await copyFile(from, join(place, String(index)), constants.COPYFILE_EXCL);
      await syncPath(join(place, String(index)));
      was.push({ path, to: { file: index } });
    }
  }
  const record = { title, at: Date.now(), releases: [...releases], was };
  await writeWhole(join(place, 'record.json'), Buffer.from(JSON.stringify(record)));
};

/** Makes the copies the ones to roll back to, once their transaction is done; drops them where it was undone. */
export const settlePrevious = async (host: Host, isDone: boolean): Promise<void> => {
  const arriving = await placeToChange(host, ARRIVING);
  const place = await placeToChange(host, PREVIOUS);
  const isKept = await lstat(join(arriving, 'record.json')).then(
    () => true,
    () => false,
  );
  if (isDone && isKept) {
    await rm(place, { recursive: true, force: true });
    await rename(arriving, place);
  }
  await rm(arriving, { recursive: true, force: true });
};

/** The inverse of the last transaction, with its title and time. Throws `not-found` where there is none. */
export const readPrevious = async (
  host: Host,
): Promise<{
  readonly title: string;
  readonly at: Date;
  readonly releases: readonly string[];
  readonly changes: readonly Change[];
}> => {
  const place = join(host.root, PREVIOUS);
  try {
    const record = Previous.parse(
      JSON.parse(await readFile(await placeToRead(host, `${PREVIOUS}/record.json`), 'utf8')),
    );
    const changes = await Promise.all(
      record.was.map(async ({ path, to }): Promise<Change> =>
        to !== null && 'file' in to
          ? { path, to: await readFile(await placeToRead(host, `${PREVIOUS}/${to.file}`)) }
          : { path, to },
      ),
    );
    return { title: record.title, at: new Date(record.at), releases: record.releases, changes };
  } catch (cause) {
    if (cause instanceof KilnError) throw cause;
    if (hasErrno(cause, 'ENOENT'))
      throw new KilnError('not-found', 'there is nothing to roll back on this host', { cause });
    throw new KilnError('install-failed', `${place} is damaged; nothing can be rolled back`, {
      cause,
    });
  }
};
