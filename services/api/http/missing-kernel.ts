import { KilnError } from '../../core/errors.ts';
import type { BuildWait } from '../../core/protocol/build.ts';
import { KernelMissing } from '../record/find-kernel.ts';
import { findSources, type BuildRequest } from '../record/resolve-build.ts';
import type { Reader } from '../record/readers.ts';
import type { ApiDeps } from './deps.ts';

/**
 * Does what is asked for, or has the kernel fetched that it lacks: then the answer is what is being done. Throws the refusal, with why no
 * archive helps, where the kernel is to be had nowhere, or is not all that is missing.
 */
export const orFetch = async <T>(
  { db, kernelDemand }: Pick<ApiDeps, 'db' | 'kernelDemand'>,
  reader: Reader,
  wanted: BuildRequest,
  ask: () => Promise<T>,
): Promise<T | BuildWait> => {
  try {
    return await ask();
  } catch (refusal) {
    if (!(refusal instanceof KernelMissing)) throw refusal;
    await findSources(db, reader, wanted.source);
    const sought = await kernelDemand.seek(refusal.release, reader.token);
    if (sought.kind === 'under way') return { waiting: sought.words };
    // It may have come since it was missing.
    return ask().catch((error: unknown) => {
      if (!(error instanceof KernelMissing) || sought.why === null) throw error;
      throw new KilnError(error.code, `${error.message}; ${sought.why}`);
    });
  }
};
