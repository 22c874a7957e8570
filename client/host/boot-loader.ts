import { KilnError } from '../../services/core/errors.ts';
import { compareReleases } from '../../services/core/kernel/boot-choice.ts';
import type { Host } from './host.ts';
import { namesOnHost, readHostFile, readHostText } from './host-files.ts';
import { hasProgram, runOn } from './programs.ts';

/** A host's boot loader: the kernels it can start, and the one it starts by default. */
export interface BootLoader {
  readonly name: 'GRUB' | 'systemd-boot';
  /** Its entry for each kernel release that it can start. */
  readonly entries: ReadonlyMap<string, string>;
  /** The entry that is set as its default; `null` where none is set, so that it starts the newest kernel. */
  readonly current: string | null;
  /** The entry that its configuration starts where no default is set; `null` where that is the newest kernel's. */
  readonly usual: string | null;
  /** Why it would not start the default that is set, and what to do; `null` if it would. */
  readonly problem: string | null;
  /** Sets the entry to start, `null` for the newest kernel's. Throws `install-failed` with the program's own words. */
  setDefault(entry: string | null): Promise<void>;
}

const TEXT_LIMIT = 4 * 1024 ** 2;

/** Finds a host's boot loader: GRUB where it has a configuration, else systemd-boot where it has entries, else `null`. */
export const bootLoaderOf = async (host: Host): Promise<BootLoader | null> =>
  (await grubOf(host)) ?? (await systemdBootOf(host));

const grubOf = async (host: Host): Promise<BootLoader | null> => {
  for (const name of ['grub', 'grub2']) {
    const config = await readHostText(host, `boot/${name}/grub.cfg`, TEXT_LIMIT);
    if (config === null) continue;
    const environment = `/boot/${name}/grubenv`;
    const saved = /^saved_entry=(.+)$/m.exec(
      (await readHostText(host, environment, TEXT_LIMIT)) ?? '',
    )?.[1];
    return {
      name: 'GRUB',
      entries: /^\s*blscfg\b/m.test(config) ? await loaderEntries(host) : grubEntries(config),
      current: saved ?? null,
      usual: null,
      problem: /set default="\$\{saved_entry\}"/.test(config)
        ? null
        : `GRUB does not look at what is saved: set GRUB_DEFAULT=saved in /etc/default/grub and run ${name === 'grub' ? 'update-grub' : 'grub2-mkconfig -o /boot/grub2/grub.cfg'}`,
      // As grub-set-default does, in the file that this GRUB reads. What grub-reboot has left there would bring back another default.
      setDefault: async (entry) => {
        const edit = (...args: string[]): Promise<void> =>
          mustRunOn(host, `${name}-editenv`, [environment, ...args]);
        await edit('unset', 'prev_saved_entry', ...(entry === null ? ['saved_entry'] : []));
        if (entry !== null) await edit('set', `saved_entry=${entry}`);
      },
    };
  }
  return null;
};

/** The entries that grub-mkconfig writes for kernels, recovery left out, by release: `SUBMENU>ENTRY` where they are in a submenu. */
const grubEntries = (config: string): ReadonlyMap<string, string> => {
  const entries = new Map<string, string>();
  let submenu = '';
  for (const line of config.split('\n')) {
    if (line === '}') submenu = '';
    const [, kind, id] =
      /^\s*(submenu|menuentry)\s.*\$menuentry_id_option '([^'\s>]+)'/.exec(line) ?? [];
    if (kind === undefined || id === undefined) continue;
    if (kind === 'submenu') submenu = `${id}>`;
    const release = /^gnulinux-(.+)-advanced-[0-9A-Za-z/:-]+$/.exec(id)?.[1];
    if (kind === 'menuentry' && release !== undefined && !entries.has(release))
      entries.set(release, `${submenu}${id}`);
  }
  return entries;
};

const systemdBootOf = async (host: Host): Promise<BootLoader | null> => {
  const entries = new Map<string, string>();
  for (const [release, entry] of await loaderEntries(host))
    entries.set(release, `${entry.replace(TRIES, '')}.conf`);
  for (const [release, entry] of await unifiedEntries(host))
    if (!entries.has(release)) entries.set(release, entry);
  if (entries.size === 0 || !(await hasProgram(host, 'bootctl'))) return null;
  // LoaderEntryDefault, after four bytes of attributes (source: the Boot Loader Interface).
  const variable = await readHostFile(
    host,
    'sys/firmware/efi/efivars/LoaderEntryDefault-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f',
    TEXT_LIMIT,
  );
  const current = variable?.subarray(4).toString('utf16le').replaceAll('\0', '') ?? '';
  return {
    name: 'systemd-boot',
    entries,
    current: current === '' ? null : current,
    usual: await settingsDefault(host, [...entries.values()]),
    problem: null,
    setDefault: (entry) => mustRunOn(host, 'bootctl', ['set-default', entry ?? '']),
  };
};

/** The counts of tries left and made, at the end of a file's name; no part of the entry's name (systemd's Automatic Boot Assessment). */
const TRIES = /\+\d+(-\d+)?$/;

const BOOTS = ['boot', 'efi', 'boot/efi'];

/** Unified kernel images (`EFI/Linux/TOKEN-RELEASE.efi`): systemd-boot's name for each, by release. */
const unifiedEntries = async (host: Host): Promise<ReadonlyMap<string, string>> => {
  const entries = new Map<string, string>();
  for (const boot of BOOTS) {
    for (const file of await namesOnHost(host, `${boot}/EFI/Linux`)) {
      const name = file.replace(/\.efi$/, '').replace(TRIES, '');
      const release = /^[A-Za-z0-9_.~-]*?-(\d+\.\d+[A-Za-z0-9_.+~-]*)$/.exec(name)?.[1];
      if (file.endsWith('.efi') && release !== undefined) entries.set(release, `${name}.efi`);
    }
  }
  return entries;
};

/** The entry that `default` in `loader.conf` names. It may be a pattern, and then means the last matching entry by name. */
const settingsDefault = async (host: Host, entries: readonly string[]): Promise<string | null> => {
  for (const boot of BOOTS) {
    const text = await readHostText(host, `${boot}/loader/loader.conf`, TEXT_LIMIT);
    const pattern = /^default[ \t]+([A-Za-z0-9_.+~*?-]+)[ \t]*$/m.exec(text ?? '')?.[1];
    if (pattern === undefined) continue;
    const glob = pattern
      .replaceAll(/[.+]/g, String.raw`\$&`)
      .replaceAll('*', '.*')
      .replaceAll('?', '.');
    const found = entries.filter((entry) => new RegExp(`^${glob}(\\.conf)?$`).test(entry));
    return found.toSorted(compareReleases).at(-1) ?? null;
  }
  return null;
};

/** Entries of the Boot Loader Specification (files' names without `.conf`), by the release that each starts. */
const loaderEntries = async (host: Host): Promise<ReadonlyMap<string, string>> => {
  const entries = new Map<string, string>();
  for (const place of BOOTS) {
    const directory = `${place}/loader/entries`;
    for (const file of await namesOnHost(host, directory)) {
      if (!/^[A-Za-z0-9_.+~-]+\.conf$/.test(file) || /rescue/.test(file)) continue;
      const text = (await readHostText(host, `${directory}/${file}`, TEXT_LIMIT)) ?? '';
      const release = /^version[ \t]+(\S+)[ \t]*$/m.exec(text)?.[1];
      if (release !== undefined && !entries.has(release))
        entries.set(release, file.slice(0, -'.conf'.length));
    }
  }
  return entries;
};

const mustRunOn = async (host: Host, program: string, args: readonly string[]): Promise<void> => {
  const { status, words } = await runOn(host, program, args);
  if (status !== 0)
    throw new KilnError(
      'install-failed',
      `${program} failed (${words || `exit status ${status}`})`,
    );
};
