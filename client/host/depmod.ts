import { KilnError } from '../../services/core/errors.ts';
import type { Host } from './host.ts';
import { run } from './programs.ts';

/** Brings a kernel's module index up to date. Throws `install-failed` with depmod's own words. */
export const runDepmod = async (host: Host, release: string): Promise<void> => {
  const args = host.root === '/' ? [release] : ['-b', host.root, release];
  const { status, words, isMissing } = await run('depmod', args);
  if (isMissing) throw new KilnError('install-failed', `${words}; it is in the package kmod`);
  if (status !== 0)
    throw new KilnError('install-failed', `depmod failed (${words || `exit status ${status}`})`);
};
