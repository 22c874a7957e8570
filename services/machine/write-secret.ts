import { chmod, link, readFile, rm, writeFile } from 'node:fs/promises';
import { hasErrno } from '../core/errors.ts';

/** Writes a secret that is not there yet: whole or not at all, and for its owner alone. */
export const writeSecret = async (file: string, text: string): Promise<void> => {
  const arrival = `${file}.${process.pid}`;
  await writeFile(arrival, text, { mode: 0o600, flag: 'wx', flush: true });
  await chmod(arrival, 0o600);
  await link(arrival, file);
  await rm(arrival);
};

/** A file's text, or `null` where it is not there. */
export const readIfThere = async (file: string): Promise<string | null> => {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return null;
    throw error;
  }
};
