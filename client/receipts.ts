import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { isDigest, type Digest } from '../services/core/digest.ts';
import { hasErrno, KilnError } from '../services/core/errors.ts';
import type { Host } from './host.ts';

/** What was installed: enough to check it, to say where it came from, and to take it away again. */
const digest = z.custom<Digest>((value) => typeof value === 'string' && isDigest(value));
const Receipt = z.object({
  name: z.string(),
  version: z.string(),
  release: z.string(),
  arch: z.string(),
  vermagic: z.string(),
  build: z.string(),
  fingerprint: digest,
  toolchain: digest,
  server: z.string(),
  /** SHA-256 of the signer's certificate; `null` where an unsigned module was wanted. */
  signer: z.string().nullable(),
  modules: z.array(
    z.object({
      name: z.string(),
      /** What the module calls itself: a source may give the file another name. */
      modname: z.string(),
      /** Relative to `/lib/modules/RELEASE`. */
      path: z.string(),
      digest,
      unsigned: digest,
    }),
  ),
  installedAt: z.number(),
});
export type Receipt = z.infer<typeof Receipt>;

const directory = (host: Host): string => join(host.root, 'var/lib/kiln/receipts');
const pathOf = (host: Host, release: string, name: string): string =>
  join(directory(host), release, `${name}.json`);

/** Writes a receipt: beside, then renamed into place. */
export const writeReceipt = async (host: Host, receipt: Receipt): Promise<void> => {
  const path = pathOf(host, receipt.release, receipt.name);
  await mkdir(dirname(path), { recursive: true, mode: 0o755 });
  await writeWhole(path, Buffer.from(`${JSON.stringify(receipt, null, 2)}\n`));
};

/** The receipt of a module source for a kernel, or `null`. */
export const readReceipt = async (
  host: Host,
  release: string,
  name: string,
): Promise<Receipt | null> => {
  const path = pathOf(host, release, name);
  try {
    return Receipt.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (cause) {
    if (hasErrno(cause, 'ENOENT')) return null;
    throw new KilnError(
      'install-failed',
      `the receipt ${path} is damaged; install ${name} again to make a new one`,
      { cause },
    );
  }
};

/** All receipts of a host that can be read, and the paths of those that cannot. */
export const listReceipts = async (
  host: Host,
): Promise<{ readonly receipts: readonly Receipt[]; readonly damaged: readonly string[] }> => {
  const receipts: Receipt[] = [];
  const damaged: string[] = [];
  for (const release of (await readdir(directory(host)).catch(() => [])).sort()) {
    for (const file of (await readdir(join(directory(host), release))).sort()) {
      if (!file.endsWith('.json')) continue;
      const receipt = await readReceipt(host, release, file.slice(0, -'.json'.length)).catch(
        () => 'damaged' as const,
      );
      if (receipt === 'damaged') damaged.push(join(directory(host), release, file));
      else if (receipt !== null) receipts.push(receipt);
    }
  }
  return { receipts, damaged };
};

export const removeReceipt = (host: Host, receipt: Receipt): Promise<void> =>
  rm(pathOf(host, receipt.release, receipt.name), { force: true });

/** Writes a file so that it is there whole or as it was before, also after a power cut. */
export const writeWhole = async (path: string, bytes: Buffer): Promise<void> => {
  const arrival = `${path}.kiln-new`;
  const file = await open(arrival, 'w', 0o644);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } catch (error) {
    await file.close();
    await rm(arrival, { force: true });
    throw error;
  }
  await file.close();
  await rename(arrival, path);
};
