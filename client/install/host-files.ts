import { lstat, readFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { digestOf } from '../../services/core/digest.ts';
import { KilnError } from '../../services/core/errors.ts';
import { firmwarePath } from '../../services/core/source/host-files.ts';
import type { Host } from '../host/host.ts';
import { firmwareHome, latestOf } from '../installed/brought-files.ts';
import { installedFile, type Receipt } from '../installed/receipts.ts';
import type { Change } from '../transaction/change.ts';
import type { Fetched } from './fetch.ts';

/**
 * Files that a source brings beside its modules. Firmware goes to where only the kernel of one release looks for it. Settings of udev,
 * modprobe, depmod and systemd are shared by all kernels: of several receipts that have one, the latest counts.
 */

/** The files of a build as a receipt has them, and the changes that lay its firmware down. Throws `install-failed` where somebody else has a place. */
export const layFiles = async (
  host: Host,
  { build, files }: Fetched,
  receipts: readonly Receipt[],
): Promise<{ readonly files: Receipt['files']; readonly changes: readonly Change[] }> => {
  const { source, kernel } = build;
  const changes: Change[] = [];
  const laid = files.map(({ place, bytes }) => {
    const firmware = firmwarePath(place);
    const digest = digestOf(bytes);
    if (firmware === null) return { path: place.slice(1), digest, text: bytes.toString('utf8') };
    const path = `${firmwareHome(kernel.release)}/${firmware}`;
    changes.push({ path, to: bytes });
    return { path, digest, text: null };
  });
  for (const { path } of laid) {
    const holder = receipts.find((each) => each.files.some((file) => file.path === path));
    if (holder?.name === source.name) continue;
    if (holder !== undefined)
      throw new KilnError(
        'install-failed',
        `/${path} is already installed from ${holder.name}/${holder.version}; remove that first (kiln remove ${holder.name} -k ${holder.release})`,
      );
    if (await isThere(join(host.root, path)))
      throw new KilnError(
        'install-failed',
        `${source.name} brings /${path}, and one is there that Kiln has not installed; move it away, then install again`,
      );
  }
  return { files: laid, changes };
};

/** The files of a source whose modules are linked to another kernel: its firmware is linked there, too. */
export const linkFiles = (
  origin: Receipt,
  release: string,
): { readonly files: Receipt['files']; readonly changes: readonly Change[] } => {
  const changes: Change[] = [];
  const files = origin.files.map((file) => {
    if (file.text !== null) return file;
    const path = file.path.replace(firmwareHome(origin.release), firmwareHome(release));
    changes.push({ path, to: { link: relative(dirname(path), file.path) } });
    return { ...file, path };
  });
  return { files, changes };
};

/** The changes that take away firmware which a source's former receipt has and its next one has not. */
export const firmwareGone = (before: Receipt | null, next: Receipt['files']): readonly Change[] =>
  (before?.files ?? []).flatMap(({ path, text }): readonly Change[] =>
    text !== null || next.some((each) => each.path === path) ? [] : [{ path, to: null }],
  );

/** The changes of settings where some receipts give way to others: each place gets what the latest receipt has for it, or nothing. */
export const settingsChanges = (
  before: readonly Receipt[],
  after: readonly Receipt[],
): readonly Change[] => {
  const concerned = [
    ...before.filter((each) => !after.includes(each)),
    ...after.filter((each) => !before.includes(each)),
  ];
  const paths = concerned.flatMap(({ files }) =>
    files.flatMap(({ path, text }) => (text === null ? [] : [path])),
  );
  return [...new Set(paths)].map((path) => {
    const text = latestOf(path, after)?.text ?? null;
    return { path, to: text === null ? null : Buffer.from(text) };
  });
};

/** Those of such changes that take away or replace what was installed: a file that somebody else has changed since is left alone. */
export const settingsTaken = async (
  host: Host,
  before: readonly Receipt[],
  after: readonly Receipt[],
): Promise<readonly Change[]> => {
  const changes: Change[] = [];
  for (const change of settingsChanges(before, after)) {
    const bytes = await readFile(await installedFile(host, change.path)).catch(() => null);
    if (bytes === null || digestOf(bytes) === latestOf(change.path, before)?.digest)
      changes.push(change);
  }
  return changes;
};

const isThere = (path: string): Promise<boolean> =>
  lstat(path).then(
    () => true,
    () => false,
  );
