import { constants } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** What all users of a host may read. */
const PUBLIC = 0o644;

/** Writes a file so that it is there whole or as it was before, also after a power cut. All may read it unless `mode` says otherwise. */
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
 * Writes a new file and waits until it is on the disk. What has its name goes first: a link that somebody has put there would have
 * another file written. What could not be written whole is taken away again.
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
