import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Writes a file so that it is there whole or as it was before, also after a power cut. */
export const writeWhole = async (path: string, bytes: Buffer): Promise<void> => {
  const arrival = `${path}.kiln-new`;
  await writeSynced(arrival, bytes);
  try {
    await rename(arrival, path);
  } catch (error) {
    await rm(arrival, { force: true });
    throw error;
  }
  await syncPath(dirname(path));
};

/** Writes a file and waits until it is on the disk. What could not be written whole is taken away again. */
export const writeSynced = async (path: string, bytes: Buffer): Promise<void> => {
  const file = await open(path, 'w', 0o644);
  try {
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
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
};
