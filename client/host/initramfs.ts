import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { KilnError } from '../../services/core/errors.ts';
import type { Host } from './host.ts';
import { moduleName } from './kernel-modules.ts';
import { hasProgram, runOn, type ProgramEnd } from './programs.ts';

/** What makes a host's initramfs images. */
export type InitramfsTool = 'update-initramfs' | 'dracut';

/** A kernel's initramfs on a host. */
export interface Initramfs {
  /** `null` where the host has none. */
  readonly tool: InitramfsTool | null;
  /** The image's path as the host sees it; `null` where the kernel has none, or none yet. */
  readonly image: string | null;
  /**
   * Whether the image holds one of these modules, or should by the host's settings. One that cannot be listed is taken to hold them:
   * making it anew does no harm. `-` and `_` are one letter.
   */
  holds(names: readonly string[]): Promise<boolean>;
}

const LISTING_LIMIT = 64 * 1024 ** 2;
const SETTINGS_LIMIT = 1024 ** 2;

/** Finds out how a kernel's initramfs is made, and where it is. */
export const initramfsOf = async (host: Host, release: string): Promise<Initramfs> => {
  const tool = (await hasProgram(host, 'update-initramfs'))
    ? 'update-initramfs'
    : (await hasProgram(host, 'dracut'))
      ? 'dracut'
      : null;
  const image = tool === null ? null : await findImage(host, release);
  let listing: Promise<ReadonlySet<string> | null> | null = null;
  return {
    tool,
    image,
    holds: async (names) => {
      if (tool === null || image === null) return false;
      const wanted = names.map(moduleName);
      const settings = await modulesInSettings(host, tool);
      if (wanted.some((name) => settings.has(name))) return true;
      const held = await (listing ??= listModules(host, image));
      return held === null || wanted.some((name) => held.has(name));
    },
  };
};

/**
 * Makes a kernel's initramfs anew, if it has one. Throws `install-failed` with the tool's own first error; the image is then
 * what it was.
 */
export const refreshInitramfs = async (host: Host, release: string): Promise<void> => {
  const { tool, image } = await initramfsOf(host, release);
  if (tool === null || image === null) return;
  const args = tool === 'dracut' ? ['--force', image, release] : ['-u', '-k', release];
  const end = await runOn(host, tool, args, { words: 64 * 1024 });
  if (end.status === 0) return;
  throw new KilnError(
    'install-failed',
    `${tool} failed for ${release} (${firstError(end)}); mend that and run ${tool} ${args.join(' ')}`,
  );
};

/** Lines that say what was wrong, the tools' own errors first. */
const ERRORS: readonly RegExp[] = [
  /^(E|dracut\[[EF]\]|dracut): /,
  /\b(error|fail(ed|ure)?|cannot|no space|not found)\b/i,
  /./,
];

/** The line of what a tool said that tells most: warnings come before errors. */
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

const findImage = async (host: Host, release: string): Promise<string | null> => {
  const machine = await readSettings(join(host.root, 'etc/machine-id'));
  const id = /^[0-9a-f]{32}$/m.exec(machine)?.[0];
  const images = [
    `/boot/initrd.img-${release}`,
    `/boot/initramfs-${release}.img`,
    ...(id === undefined ? [] : [`/boot/${id}/${release}/initrd`]),
  ];
  for (const image of images) if (await exists(join(host.root, image))) return image;
  return null;
};

/** The modules that an image holds; `null` if it cannot be listed. */
const listModules = async (host: Host, image: string): Promise<ReadonlySet<string> | null> => {
  const lister = (await hasProgram(host, 'lsinitramfs')) ? 'lsinitramfs' : 'lsinitrd';
  const { status, stdout } = await runOn(host, lister, [image], { limit: LISTING_LIMIT });
  if (status !== 0) return null;
  const paths = stdout.toString('utf8').matchAll(/\/([^/\s]+\.ko)(?:\.gz|\.xz|\.zst)?$/gm);
  return new Set([...paths].map(([, name]) => moduleName(name ?? '')));
};

/** The modules that a host's settings want in every image. */
const modulesInSettings = async (host: Host, tool: InitramfsTool): Promise<ReadonlySet<string>> => {
  const at = (path: string): string => join(host.root, path);
  if (tool === 'update-initramfs') {
    const text = [
      await readSettings(at('etc/initramfs-tools/modules')),
      await readFolder(at('usr/share/initramfs-tools/modules.d'), ''),
    ].join('\n');
    return new Set(
      [...text.matchAll(/^[ \t]*([^#\s]\S*)/gm)].map(([, name]) => moduleName(name ?? '')),
    );
  }
  const text = [
    await readFolder(at('usr/lib/dracut/dracut.conf.d'), '.conf'),
    await readSettings(at('etc/dracut.conf')),
    await readFolder(at('etc/dracut.conf.d'), '.conf'),
  ].join('\n');
  const lists = text.matchAll(/^[ \t]*(?:add_|force_)drivers\+?=(?:"([^"]*)"|'([^']*)'|(\S*))/gm);
  return new Set(
    [...lists].flatMap(([, double, single, bare]) =>
      (double ?? single ?? bare ?? '').split(/\s+/).map(moduleName),
    ),
  );
};

const readFolder = async (directory: string, ending: string): Promise<string> => {
  const names = await readdir(directory).catch(() => []);
  const chosen = names.filter((name) => name.endsWith(ending)).sort();
  return (await Promise.all(chosen.map((name) => readSettings(join(directory, name))))).join('\n');
};

/** A settings file's text; '' where there is none, or what is there is none. */
const readSettings = async (path: string): Promise<string> => {
  const stats = await stat(path).catch(() => null);
  if (stats === null || !stats.isFile() || stats.size > SETTINGS_LIMIT) return '';
  return readFile(path, 'utf8').catch(() => '');
};

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );
