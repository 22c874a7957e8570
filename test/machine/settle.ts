import { rename, rm } from 'node:fs/promises';
import { hasErrno } from '../../services/core/errors.ts';

/** Moves what was made into its place, unless another test made the same before. */
export const settle = async (arrival: string, place: string): Promise<void> => {
  try {
    await rename(arrival, place);
  } catch (error) {
    if (!hasErrno(error, 'ENOTEMPTY') && !hasErrno(error, 'EEXIST')) throw error;
    await rm(arrival, { recursive: true, force: true });
  }
};
