import { constants } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** The mode of files that all users of a host may read. */
const PUBLIC = 0o644;

/** Replaces a file atomically: even after a power cut it has either its old or its new content. All may read it unless `mode` says otherwise. */
export const writeWhole = async (path: string, bytes: Buffer, mode = PUBLIC): Promise<void> => {
  const arrival = `${path}.kiln-new`;
  await writeSynced(arrival, bytes, mode);
  try {
    await rename(arrival, path);
  } catch (error) {
    await rm(arrival, { force: true });
    throw error;
  }
  await syncPath(dirname(path));
};

/**
 * Writes a new file and waits until it is on the disk. Whatever has its name is removed first: writing through a link that somebody put
 * there would change another file. A file that could not be written completely is removed again.
 */
export const writeSynced = async (path: string, bytes: Buffer, mode = PUBLIC): Promise<void> => {
  await rm(path, { force: true });
  const file = await open(path, 'wx', mode);
  try {
    await file.chmod(mode);
    await file.writeFile(bytes);
    await file.sync();
  } catch (error) {
    await file.close();
    await rm(path, { force: true });
    throw error;
  }
  await file.close();
};

/** Waits until a file's bytes, or a directory's names, are on the disk. */
export const syncPath = async (path: string): Promise<void> => {
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
};
