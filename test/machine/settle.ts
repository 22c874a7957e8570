import { rename, rm } from 'node:fs/promises';
import { hasErrno } from '../../services/core/errors.ts';

/** Gives what was made its place, unless somebody else was first with the same: tests run side by side. */
export const settle = async (arrival: string, place: string): Promise<void> => {
  try {
    await rename(arrival, place);
  } catch (error) {
    if (!hasErrno(error, 'ENOTEMPTY') && !hasErrno(error, 'EEXIST')) throw error;
    await rm(arrival, { recursive: true, force: true });
  }
};
