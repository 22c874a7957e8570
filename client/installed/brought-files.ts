import { readFile } from 'node:fs/promises';
import { digestOf } from '../../services/core/digest.ts';
import type { HostFiles } from '../../services/core/source/host-files.ts';
import type { Host } from '../host/host.ts';
import { installedFile, type Receipt } from './receipts.ts';

/** Files that came beside a source's modules, as they are on the host now. */

type Brought = Receipt['files'][number];

/** Where a kernel looks first for firmware (source: `fw_path` of its drivers/base/firmware_loader/main.c), relative to the root. */
export const firmwareHome = (release: string): string => `lib/firmware/updates/${release}`;

/** What a place that kernels share has: the file of the receipt that came last. */
export const latestOf = (path: string, receipts: readonly Receipt[]): Brought | null =>
  receipts
    .toSorted((one, other) => other.installedAt - one.installedAt)
    .flatMap(({ files }) => files)
    .find((file) => file.path === path) ?? null;

/** A receipt's files, each with what is wrong with it on the host; `null` where nothing is. */
export const lookAtFiles = (
  host: Host,
  receipt: Receipt,
  receipts: readonly Receipt[],
): Promise<readonly { readonly path: string; readonly problem: string | null }[]> =>
  Promise.all(
    receipt.files.map(async (file) => {
      const { path } = file;
      const expected = file.text === null ? file : latestOf(path, receipts);
      const bytes = await readFile(await installedFile(host, path)).catch(() => null);
      if (bytes === null) return { path, problem: 'is missing' };
      const isSame = digestOf(bytes) === expected?.digest;
      return { path, problem: isSame ? null : 'has other bytes than were installed' };
    }),
  );

/** The first of a receipt's files that its source's signed provenance does not speak of, or `null`. */
export const unattested = ({ files, release }: Receipt, attested: HostFiles): string | null =>
  files.find(({ path, digest, text }) => {
    const firmware = `${firmwareHome(release)}/`;
    const place = path.startsWith(firmware)
      ? `/lib/firmware/${path.slice(firmware.length)}`
      : `/${path}`;
    return attested[place] !== digest || (text !== null && digestOf(text) !== digest);
  })?.path ?? null;
