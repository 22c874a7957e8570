import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { isDigest, type Digest } from '../../services/core/digest.ts';
import { hasErrno, KilnError } from '../../services/core/errors.ts';
import { isKernelRelease } from '../../services/core/kernel/kernel.ts';
import { SOURCE_NAME } from '../../services/core/source/source.ts';
import { hostKernels, inModules, placeToRead, type Host } from '../host/host.ts';
import { linkTarget } from '../host/host-files.ts';
import type { Change } from '../transaction/change.ts';

const digest = z.custom<Digest>((value) => typeof value === 'string' && isDigest(value));
/** A path without `..`: root reads, moves and removes the files that receipts name. */
const pathBelow = (directory: string) =>
  z
    .string()
    .max(4096)
    .startsWith(directory)
    .regex(/^[^/\0][^\0]*$/)
    .refine((path) => !path.split('/').includes('..'));
/** Where what was moved aside is kept: by us, or in dkms's tree as dkms has it. */
const keptPath = pathBelow('').refine(
  (path) => path.startsWith('var/lib/kiln/displaced/') || path.includes('/original_module/'),
);
const releaseName = z.string().refine(isKernelRelease);

/** The record of one installed source on one kernel: enough to check it, to say where it came from and what has changed, and to remove it. */
const Receipt = z.object({
  name: z.string().regex(SOURCE_NAME),
  version: z.string(),
  release: releaseName,
  arch: z.string(),
  vermagic: z.string(),
  build: z.string(),
  fingerprint: digest,
  /** All that the fingerprint covers (core/build/fingerprint.ts). */
  inputs: z.record(z.string(), z.unknown()),
  toolchain: z.object({ digest, name: z.string() }),
  server: z.string(),
  /** SHA-256 of the signer's certificate; `null` where an unsigned module was accepted. */
  signer: z.string().nullable(),
  /** The DSSE envelope that says how it was built, if the service has signed one. */
  provenance: z.string().nullable(),
  /** Whether the source lets its modules be linked to other kernels that they fit (dkms.conf's `NO_WEAK_MODULES`). */
  mayLink: z.boolean(),
  /** The kernel whose modules are linked here instead of being built again; `null` where they were built for this one. */
  linkedFrom: releaseName.nullable(),
  /** For links: the digest of the symbols' CRCs that the proof was made with. */
  provenWith: digest.nullable(),
  modules: z.array(
    z.object({
      name: z.string(),
      /** The module's own name: a source may give the file another one. */
      modname: z.string(),
      /** Relative to `/lib/modules/RELEASE`. */
      path: pathBelow(''),
      /** Of the file as it lies there, compressed if the kernel's own modules are. */
      digest,
      /** Of the module that the service sent, signed unless an unsigned one was wanted. */
      module: digest,
      unsigned: digest,
    }),
  ),
  /** Files that came beside the modules: firmware, which `text` is `null` for, and settings that all kernels of the host share. */
  files: z
    .array(z.object({ path: pathBelow('lib/'), digest, text: z.string().nullable() }))
    .default([]),
  /** Modules of the same names that were moved aside: from where, and to where below the root. */
  displaced: z.array(z.object({ path: pathBelow(''), kept: keptPath })),
  /** The tree of dkms that it was installed from; `null` where `kiln install` did it. */
  dkmsTree: z
    .string()
    .regex(/^\/[^\0]+$/)
    .nullable()
    .default(null),
  installedAt: z.number(),
});
export type Receipt = z.infer<typeof Receipt>;

/** The key of a receipt: a host has one for each source and kernel. */
export const receiptKey = ({ release, name }: Pick<Receipt, 'release' | 'name'>): string =>
  `${release} ${name}`;

/** Whether two receipts of one source and kernel speak of the same module set. */
export const isSameSet = (one: Receipt, other: Receipt): boolean => {
  const set = ({ modules, linkedFrom, files }: Receipt): string =>
    JSON.stringify([
      linkedFrom,
      modules.map(({ path, module }) => [path, module]),
      files.map(({ path, digest: of }) => [path, of]),
    ]);
  return set(one) === set(other);
};

/** The directory of our modules below `/lib/modules/RELEASE`: depmod prefers `updates/` to what came with the kernel. */
export const INSTALL_DIRECTORY = 'updates/kiln';
/** The directory of links to another kernel's modules, below `/lib/modules/RELEASE`; Enterprise Linux's `weak-modules` makes its links there, too. */
export const LINK_DIRECTORY = 'weak-updates/kiln';

/** Where receipts lie, below the host's root. */
const RECEIPTS = 'var/lib/kiln/receipts';
const pathOf = (release: string, name: string): string => `${RECEIPTS}/${release}/${name}.json`;

/** The change that writes a receipt. */
export const receiptChange = (receipt: Receipt): Change => ({
  path: pathOf(receipt.release, receipt.name),
  to: Buffer.from(`${JSON.stringify(receipt, null, 2)}\n`),
});

/** The change that takes a receipt away. */
export const noReceipt = ({ release, name }: Pick<Receipt, 'release' | 'name'>): Change => ({
  path: pathOf(release, name),
  to: null,
});

/** The receipt of a module source for a kernel, or `null`. */
export const readReceipt = async (
  host: Host,
  release: string,
  name: string,
): Promise<Receipt | null> => {
  const path = await placeToRead(host, pathOf(release, name));
  try {
    const receipt = Receipt.parse(JSON.parse(await readFile(path, 'utf8')));
    if (receipt.release === release && receipt.name === name) return receipt;
    throw new RangeError(`it is the receipt of ${receipt.name} for ${receipt.release}`);
  } catch (cause) {
    if (hasErrno(cause, 'ENOENT')) return null;
    throw new KilnError(
      'install-failed',
      `the receipt ${path} is damaged; install ${name} again to make a new one`,
      { cause },
    );
  }
};

/**
 * All receipts of a host that can be read, and the paths of those that cannot. Where `weak-modules` has linked a whole module set to
 * another kernel, that kernel gets a receipt as if we had linked it, but without a proof.
 */
export const listReceipts = async (
  host: Host,
): Promise<{ readonly receipts: readonly Receipt[]; readonly damaged: readonly string[] }> => {
  const directory = join(host.root, RECEIPTS);
  const receipts: Receipt[] = [];
  const damaged: string[] = [];
  for (const release of (await readdir(directory).catch(() => [])).sort()) {
    for (const file of (await readdir(join(directory, release)).catch(() => [])).sort()) {
      if (!file.endsWith('.json')) continue;
      const receipt = await readReceipt(host, release, file.slice(0, -'.json'.length)).catch(
        () => 'damaged' as const,
      );
      if (receipt === 'damaged') damaged.push(join(directory, release, file));
      else if (receipt !== null) receipts.push(receipt);
    }
  }
  return { receipts: [...receipts, ...(await linksOfOthers(host, receipts))], damaged };
};

const linksOfOthers = async (
  host: Host,
  receipts: readonly Receipt[],
): Promise<readonly Receipt[]> => {
  const found: Receipt[] = [];
  for (const release of receipts.length === 0 ? [] : await hostKernels(host)) {
    const places = await linksIn(host, release);
    if (places.size === 0) continue;
    for (const origin of receipts) {
      const isOwn = [...receipts, ...found].some(
        (each) => each.release === release && each.name === origin.name,
      );
      if (isOwn || origin.linkedFrom !== null || origin.modules.length === 0) continue;
      const modules = origin.modules.flatMap((module) => {
        const place = `/lib/modules/${origin.release}/${module.path}`;
        const path = `${LINK_DIRECTORY}/${basename(module.path)}`;
        return places.get(path) === place ? [{ ...module, path }] : [];
      });
      if (modules.length < origin.modules.length) continue;
      const { release: linkedFrom } = origin;
      // The tool links modules alone.
      const own = { release, modules, linkedFrom, provenWith: null, files: [], displaced: [] };
      found.push({ ...origin, ...own });
    }
  }
  return found;
};

/** The links in a kernel's `LINK_DIRECTORY` and their targets, as paths on the host. */
const linksIn = async (host: Host, release: string): Promise<ReadonlyMap<string, string>> => {
  const home = join('/lib/modules', release, LINK_DIRECTORY);
  const links = new Map<string, string>();
  for (const name of await readdir(join(host.root, home)).catch(() => [])) {
    const target = await linkTarget(host, join(home, name));
    if (target !== null) links.set(`${LINK_DIRECTORY}/${name}`, target);
  }
  return links;
};

/** Whether a link leads to a module that one of the receipts speaks of. */
export const leadsToOurs = async (
  host: Host,
  path: string,
  receipts: readonly Receipt[],
): Promise<boolean> => {
  const target = await linkTarget(host, path);
  return receipts.some(({ release, modules }) =>
    modules.some((module) => target === join('/lib/modules', release, module.path)),
  );
};

/** The file of a module that a receipt speaks of: what its link leads to on that host, where it is one. */
export const moduleFile = (host: Host, release: string, path: string): Promise<string> =>
  installedFile(host, inModules(release, path));

/** The file at a path below a host's root: what its link leads to on that host, where it is one. */
export const installedFile = async (host: Host, path: string): Promise<string> =>
  join(host.root, (await linkTarget(host, join('/', path))) ?? path);
