import { lstat, readFile, readlink, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { digestOf, type Digest } from '../../services/core/digest.ts';
import { inModules, type Host } from '../host/host.ts';
import { isOnHost } from '../host/host-files.ts';
import { fileOrLink } from '../installed/displaced.ts';
import { noReceipt, type Receipt } from '../installed/receipts.ts';
import type { Change } from '../transaction/change.ts';

/** The receipts of links to a module set on other kernels. */
export const linksTo = (origin: Receipt, receipts: readonly Receipt[]): readonly Receipt[] =>
  receipts.filter(({ name, linkedFrom }) => name === origin.name && linkedFrom === origin.release);

/** The changes that remove links, given their receipts. */
export const planUnlink = async (
  host: Host,
  links: readonly Receipt[],
): Promise<readonly Change[]> => {
  const changes: Change[] = [];
  for (const link of links) changes.push(...(await planRemove(host, link, [])));
  return changes;
};

/**
 * The plan that removes a source's modules, its firmware and the links to them, and moves back what had been moved aside for them.
 * A file that somebody else has changed since is left alone.
 */
export const planRemove = async (
  host: Host,
  receipt: Receipt,
  receipts: readonly Receipt[],
): Promise<readonly Change[]> => {
  const { release } = receipt;
  const changes: Change[] = [];
  for (const module of receipt.modules) {
    const path = inModules(release, module.path);
    if (await isOurs(join(host.root, path), receipt, module.digest))
      changes.push({ path, to: null });
  }
  for (const { path, digest, text } of receipt.files)
    if (text === null && (await isOurs(join(host.root, path), receipt, digest)))
      changes.push({ path, to: null });
  for (const { path, kept } of receipt.displaced) {
    const what = await fileOrLink(host, kept);
    if (what === null) continue;
    changes.push({ path: kept, to: null });
    const place = inModules(release, path);
    const isUseful =
      Buffer.isBuffer(what) || (await isOnHost(host, resolve('/', dirname(place), what.link)));
    const isLeft = changes.some((each) => each.path === place && each.to === null);
    if (isUseful && (isLeft || (await isPlaceFor(host, release, path))))
      changes.push({ path: place, to: what });
  }
  return [
    ...changes,
    ...outOfDkms(receipt),
    ...(await planUnlink(host, linksTo(receipt, receipts))),
    noReceipt(receipt),
  ];
};

/** The changes that have dkms's tree say that a source is no longer installed: what was built of it stays there. */
const outOfDkms = ({ dkmsTree, name, release, arch, displaced }: Receipt): readonly Change[] =>
  dkmsTree === null
    ? []
    : [
        { path: `${dkmsTree.slice(1)}/${name}/kernel-${release}-${arch}`, to: null },
        ...displaced.map(({ kept }): Change => ({ path: `${kept}.origin`, to: null })),
      ];

/** Whether a module that was moved aside may go back: its kernel is still there, and no other file is in its place. */
const isPlaceFor = async (host: Host, release: string, path: string): Promise<boolean> => {
  const isThere = (look: Promise<unknown>): Promise<boolean> =>
    look.then(
      () => true,
      () => false,
    );
  return (
    (await isThere(stat(join(host.root, inModules(release, 'kernel'))))) &&
    !(await isThere(lstat(join(host.root, inModules(release, path)))))
  );
};

/** Whether a file still is what was installed. */
const isOurs = async (path: string, receipt: Receipt, digest: Digest): Promise<boolean> => {
  if (receipt.linkedFrom !== null) return (await readlink(path).catch(() => null)) !== null;
  const bytes = await readFile(path).catch(() => null);
  return bytes !== null && digestOf(bytes) === digest;
};
