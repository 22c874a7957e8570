import { stat } from 'node:fs/promises';
import type { Digest } from '../../services/core/digest.ts';
import { KilnError } from '../../services/core/errors.ts';
import { inspectKernel, isKernelEvidence, type Kernel } from '../../services/core/kernel/kernel.ts';
import {
  DELTA_FILE,
  kernelDelta,
  parseManifest,
  travelling,
} from '../../services/core/kernel/kernel-delta.ts';
import { trustReaches } from '../../services/core/policy/policy.ts';
import type { KernelView } from '../../services/core/protocol/kernel.ts';
import { isKernelLeftover, movedPath, type Tree } from '../../services/core/tree/tree.ts';
import type { AskDeps } from './ask-deps.ts';
import { headersIn } from './kernel-tree.ts';
import { packEntries, type Packed } from './pack.ts';
import { scanEntries, type LocalEntry } from './tree.ts';

/** A kernel that the service has now, and the bytes that were sent for it. */
export interface SentKernel {
  readonly kernel: KernelView;
  readonly sent: number;
}

/** Sends the headers in a directory, with what their links and their Makefile lead to. */
export const sendKernelDirectory = async (deps: AskDeps, path: string): Promise<SentKernel> => {
  deps.progress.step('reading headers');
  return sendHeaders(deps, await headersIn(path));
};

/**
 * Sends headers: nothing where the service has this kernel, only the new files where it has a similar one, else all of them.
 * The client works out the kernel's digest just as the service does, and the service checks it.
 */
export const sendHeaders = async (
  deps: AskDeps,
  all: readonly LocalEntry[],
): Promise<SentKernel> => {
  const { service, progress, signal } = deps;
  progress.step('hashing headers');
  // The gigabytes of objects in a built tree are no part of the kernel, and would take long to read.
  const entries = all.filter(({ path }) => !isKernelLeftover(path));
  const { kernel, tree, layout } = inspectKernel(
    await scanEntries(entries, isKernelEvidence, signal),
  );
  const known = await service.kernel(kernel.digest);
  // The push counts even without bytes: an admin's approves a kernel that only a client has pushed before.
  if (known !== null) return { kernel: await service.confirmKernel(kernel.digest), sent: 0 };
  const laid = entries.flatMap((each) => {
    const path = movedPath(each.path, layout);
    return path === null ? [] : [{ ...each, path }];
  });
  const base = await findBase(deps, kernel);
  if (base !== null) {
    progress.step(`packing what ${base.release} has not`);
    const { service: here } = deps;
    const send = (delta: Digest) => here.deriveKernel(delta, base.digest, kernel.digest);
    try {
      return await sendPacked(deps, await packDelta(deps, laid, tree, kernel, base), send);
    } catch (error) {
      // Whatever makes this base unusable, sending all of the headers still works.
      if (!(error instanceof KilnError) || !RETRIED_WHOLE.has(error.code)) throw error;
    }
  }
  progress.step('packing headers');
  return sendPacked(deps, await packEntries(laid, signal), (blob) => service.createKernel(blob));
};

const RETRIED_WHOLE: ReadonlySet<string> = new Set([
  'conflict',
  'bad-tarball',
  'digest-mismatch',
  'too-large',
  'unreachable',
]);

const sendPacked = async (
  { service, progress, signal }: AskDeps,
  packed: Packed,
  make: (blob: Digest) => Promise<KernelView>,
): Promise<SentKernel> => {
  try {
    const { size } = await stat(packed.file);
    progress.step(`sending ${(size / 1e6).toFixed(1)} MB of headers`);
    await service.putBlob(packed.digest, packed.file, signal);
    return { kernel: await make(packed.digest), sent: size };
  } finally {
    await packed.dispose();
  }
};

const flavourOf = (release: string): string => /-[a-z][a-z0-9-]*$/.exec(release)?.[0] ?? '';

/** The service's newest kernel of the same flavour and series: most of its files are likely to be the same. */
const findBase = async ({ service }: AskDeps, kernel: Kernel): Promise<KernelView | null> => {
  const series = /^\d+\.\d+/.exec(kernel.release)?.[0] ?? '';
  const alike = (await service.kernels()).filter(
    ({ release, arch, trust }) =>
      arch === kernel.arch && trustReaches(trust, 'archive') && release.startsWith(`${series}.`),
  );
  const sameFlavour = alike.filter(
    ({ release }) => flavourOf(release) === flavourOf(kernel.release),
  );
  return sameFlavour[0] ?? alike[0] ?? null;
};

const packDelta = async (
  { service, signal }: AskDeps,
  local: readonly LocalEntry[],
  tree: Tree,
  kernel: Kernel,
  base: { readonly digest: Digest; readonly release: string },
): Promise<Packed> => {
  const entries = parseManifest(await service.kernelFiles(base.digest));
  const delta = kernelDelta(
    { release: base.release, entries },
    { release: kernel.release, entries: tree.entries },
  );
  const wanted = travelling(delta);
  return packEntries(
    local.filter(({ path }) => wanted.has(path)),
    signal,
    { [DELTA_FILE]: JSON.stringify(delta) },
  );
};
