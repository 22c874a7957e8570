import { KilnError } from '../../core/errors.ts';
import { KernelMissing } from '../record/find-kernel.ts';
import { findSources, type BuildRequest } from '../record/resolve-build.ts';
import type { Reader } from '../record/readers.ts';
import type { ApiDeps } from './deps.ts';

/**
 * Has a kernel fetched that a refused request lacks: what is being done, in words, for as long as the request may yet succeed. Throws the
 * refusal, with why no archive helps, where it may not: the kernel is to be had nowhere, or is not all that is missing.
 */
export const fetchMissing = async (
  { db, kernelDemand }: Pick<ApiDeps, 'db' | 'kernelDemand'>,
  reader: Reader,
  wanted: BuildRequest,
  refusal: unknown,
): Promise<string> => {
  if (!(refusal instanceof KernelMissing)) throw refusal;
  await findSources(db, reader, wanted.source);
  const sought = await kernelDemand.seek(refusal.release, reader.token);
  if (sought.kind === 'under way') return sought.words;
  throw sought.why === null
    ? refusal
    : new KilnError(refusal.code, `${refusal.message}; ${sought.why}`);
};
