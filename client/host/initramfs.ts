import { realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { KilnError } from '../../services/core/errors.ts';
import type { Host } from './host.ts';
import { namesOnHost, readHostText } from './host-files.ts';
import { moduleNameOf } from '../../services/core/module/module-name.ts';
import { hasProgram, notRun, runOn, type ProgramEnd } from './programs.ts';

/** What makes a host's initramfs images. */
export type InitramfsTool = 'update-initramfs' | 'dracut';

/** An image that a kernel starts with. */
export interface InitramfsImage {
  /** As the host sees it. */
  readonly path: string;
  /** `null` where the host's tool makes the image anew in its place; else the command that does, for the admin to run. */
  readonly byHand: string | null;
  /**
   * Whether the image holds one of these modules, or should by the host's settings. An image that cannot be listed counts as holding
   * them: making it anew does no harm. `-` and `_` are one letter.
   */
  holds(names: readonly string[]): Promise<boolean>;
}

/** How a kernel's initramfs is made on a host. */
export interface Initramfs {
  /** `null` where the host has none that Kiln knows. */
  readonly tool: InitramfsTool | null;
  /** None where the kernel has none, or none yet. */
  readonly images: readonly InitramfsImage[];
}

const LISTING_LIMIT = 64 * 1024 ** 2;
const SETTINGS_LIMIT = 1024 ** 2;

/** Finds out how a kernel's initramfs is made, and where its images are. */
export const initramfsOf = async (host: Host, release: string): Promise<Initramfs> => {
  const tool = (await hasProgram(host, 'update-initramfs'))
    ? 'update-initramfs'
    : (await hasProgram(host, 'dracut'))
      ? 'dracut'
      : null;
  const images: InitramfsImage[] = [];
  for (const path of await findImages(host, release)) {
    let listing: Promise<ReadonlySet<string> | null> | null = null;
    images.push({
      path,
      byHand: await whoElseMakes(host, tool, release, path),
      holds: async (names) => {
        const wanted = names.map(moduleNameOf);
        const settings = tool === null ? new Set<string>() : await modulesInSettings(host, tool);
        if (wanted.some((name) => settings.has(name))) return true;
        const held = await (listing ??= listModules(host, path));
        return held === null || wanted.some((name) => held.has(name));
      },
    });
  }
  return { tool, images };
};

/**
 * Makes one image of a kernel anew. Throws `install-failed` with the tool's own first error; the image is then unchanged.
 * update-initramfs writes to `/boot` alone: copies elsewhere are left to its hooks.
 */
export const refreshInitramfs = async (
  host: Host,
  release: string,
  { tool, path }: { readonly tool: InitramfsTool; readonly path: string },
): Promise<void> => {
  if (tool === 'update-initramfs' && path !== madeByUpdate(release)) return;
  const args = argumentsOf(tool, release, path);
  const end = await runOn(host, tool, args, { words: 64 * 1024 });
  if (end.status === 0) return;
  throw new KilnError(
    'install-failed',
    `${tool} failed for ${release} (${firstError(end)}); mend that and run ${tool} ${args.join(' ')}`,
  );
};

const argumentsOf = (tool: InitramfsTool, release: string, path: string): readonly string[] =>
  tool === 'dracut' ? ['--force', path, release] : ['-u', '-k', release];

const madeByUpdate = (release: string): string => `/boot/initrd.img-${release}`;

/** Patterns of lines that say what was wrong, the tools' own errors first. */
const ERRORS: readonly RegExp[] = [
  /^(E|dracut\[[EF]\]|dracut): /,
  /\b(error|fail(ed|ure)?|cannot|no space|not found)\b/i,
  /./,
];

/** The most telling line of a tool's output. It need not be the first: warnings come before errors. */
const firstError = ({ words, status }: ProgramEnd): string => {
  const lines = words
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => !/^W:|warning:|^dracut\[W\]/i.test(line));
  for (const pattern of ERRORS) {
    const line = lines.find((each) => pattern.test(each));
    if (line !== undefined) return line.slice(0, 300);
  }
  return `exit status ${status}`;
};

/** Where boot loaders find kernels: `/boot`, and the places of the EFI system partition. */
const BOOTS = ['/boot', '/efi', '/boot/efi'];

/**
 * A kernel's images: Debian's, dracut's and openSUSE's in `/boot`, mkinitcpio's by the name of the kernel's package, those in
 * kernel-install's `$BOOT/ENTRY-TOKEN/RELEASE/`, and unified kernel images (`EFI/Linux/*.efi`). Each is listed once, even where two
 * paths lead to its directory.
 */
const findImages = async (host: Host, release: string): Promise<readonly string[]> => {
  const base = (await readHostText(host, `lib/modules/${release}/pkgbase`, SETTINGS_LIMIT)) ?? '';
  const paths = [
    madeByUpdate(release),
    `/boot/initramfs-${release}.img`,
    `/boot/initrd-${release}`,
    ...(/^[A-Za-z0-9][A-Za-z0-9@._+-]*$/.test(base) ? [`/boot/initramfs-${base}.img`] : []),
  ];
  for (const boot of BOOTS) {
    for (const token of await namesOnHost(host, boot)) {
      const directory = `${boot}/${token}/${release}`;
      for (const name of await namesOnHost(host, directory))
        if (/^(initrd|initramfs)/.test(name)) paths.push(`${directory}/${name}`);
    }
    for (const name of await namesOnHost(host, `${boot}/EFI/Linux`))
      if (isUnified(name, release)) paths.push(`${boot}/EFI/Linux/${name}`);
  }
  const found = new Map<string, string>();
  for (const path of paths) {
    const place = await realpath(join(host.root, path)).catch(() => null);
    if (place !== null && !found.has(place)) found.set(place, path);
  }
  return [...found.values()];
};

/** Whether a file is a unified image of a kernel, by the names that kernel-install (with a count of tries) and dracut give it. */
const isUnified = (name: string, release: string): boolean => {
  const [, count] = name.endsWith('.efi') ? name.split(`-${release}`) : [];
  return count !== undefined && /^(\+\d+(-\d+)?|-[0-9a-f]{32}(-[\w.]+)?)?\.efi$/.test(count);
};

/** The command that makes an image anew in a place that the host's tool does not write to; `null` where the tool does. */
const whoElseMakes = async (
  host: Host,
  tool: InitramfsTool | null,
  release: string,
  path: string,
): Promise<string | null> => {
  const isOwn =
    tool === 'dracut' ? !path.endsWith('.efi') : tool !== null && path === madeByUpdate(release);
  const usual =
    tool === null || host.runsPrograms
      ? null
      : notRun(host, [tool, ...argumentsOf(tool, release, path)].join(' '));
  if (isOwn) return usual;
  const isCopied =
    tool === 'update-initramfs' &&
    !path.endsWith('.efi') &&
    (await exists(join(host.root, madeByUpdate(release)))) &&
    (await exists(join(host.root, 'etc/initramfs/post-update.d/systemd-boot')));
  if (isCopied) return usual;
  if (await hasProgram(host, 'mkinitcpio')) return 'mkinitcpio -P';
  if (await hasProgram(host, 'kernel-install')) {
    const kernels = [`/usr/lib/modules/${release}/vmlinuz`, `/lib/modules/${release}/vmlinuz`];
    for (const kernel of kernels)
      if (await exists(join(host.root, kernel))) return `kernel-install add ${release} ${kernel}`;
    return `kernel-install add ${release} /boot/vmlinuz-${release}`;
  }
  return tool === 'dracut'
    ? `dracut --force --uefi --kver ${release}`
    : `the program that made it, for kernel ${release}`;
};

/** The modules that an image holds; `null` if it cannot be listed. */
const listModules = async (host: Host, image: string): Promise<ReadonlySet<string> | null> => {
  // Of a unified image, lsinitrd may list nothing although there are modules in it.
  if (image.endsWith('.efi')) return null;
  const lister = (await hasProgram(host, 'lsinitramfs')) ? 'lsinitramfs' : 'lsinitrd';
  if (!host.runsPrograms) return null;
  const { status, stdout } = await runOn(host, lister, [image], { limit: LISTING_LIMIT });
  if (status !== 0) return null;
  const paths = stdout.toString('utf8').matchAll(/\/([^/\s]+\.ko)(?:\.gz|\.xz|\.zst)?$/gm);
  return new Set([...paths].map(([, name]) => moduleNameOf(name ?? '')));
};

/** The modules that a host's settings want in every image. */
const modulesInSettings = async (host: Host, tool: InitramfsTool): Promise<ReadonlySet<string>> => {
  if (tool === 'update-initramfs') {
    const text = [
      await readSettings(host, 'etc/initramfs-tools/modules'),
      await readFolder(host, 'usr/share/initramfs-tools/modules.d', ''),
    ].join('\n');
    return new Set(
      [...text.matchAll(/^[ \t]*([^#\s]\S*)/gm)].map(([, name]) => moduleNameOf(name ?? '')),
    );
  }
  const text = [
    await readFolder(host, 'usr/lib/dracut/dracut.conf.d', '.conf'),
    await readSettings(host, 'etc/dracut.conf'),
    await readFolder(host, 'etc/dracut.conf.d', '.conf'),
  ].join('\n');
  const lists = text.matchAll(/^[ \t]*(?:add_|force_)drivers\+?=(?:"([^"]*)"|'([^']*)'|(\S*))/gm);
  return new Set(
    [...lists].flatMap(([, double, single, bare]) =>
      (double ?? single ?? bare ?? '').split(/\s+/).map(moduleNameOf),
    ),
  );
};

const readFolder = async (host: Host, directory: string, ending: string): Promise<string> => {
  const names = await namesOnHost(host, directory);
  const chosen = names.filter((name) => name.endsWith(ending));
  const texts = chosen.map((name) => readSettings(host, `${directory}/${name}`));
  return (await Promise.all(texts)).join('\n');
};

/** A settings file's text; '' where there is none that can be read. */
const readSettings = async (host: Host, path: string): Promise<string> =>
  (await readHostText(host, path, SETTINGS_LIMIT)) ?? '';

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );
