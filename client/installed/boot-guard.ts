import { mkdir, readFile, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import { chooseBoot, type BootChoice } from '../../services/core/kernel/boot-choice.ts';
import { hasErrno, KilnError } from '../../services/core/errors.ts';
import { bootLoaderOf, type BootLoader } from '../host/boot-loader.ts';
import { hostKernels, placeToChange, placeToRead, type Host } from '../host/host.ts';
import { forEverybody } from '../host/umask.ts';
import { writeWhole } from '../transaction/whole-file.ts';

/** The kernels whose module set is not complete, and why. */
export type Incomplete = (host: Host) => Promise<ReadonlyMap<string, string>>;

/** The entry that guard has set as the boot loader's default, and the one that was set before. */
const Held = z.object({
  loader: z.enum(['GRUB', 'systemd-boot']),
  entry: z.string(),
  before: z.string().nullable(),
});
type Held = z.infer<typeof Held>;

/** What guard did, for people and scripts. */
export interface GuardAnswer {
  readonly text: string;
  readonly loader: string | null;
  /** The kernel that is started by default; `instead` is the one that would be without guard, where that is another. */
  readonly release: string | null;
  readonly instead: string | null;
  readonly why: string | null;
  /** Whether the boot loader was set. */
  readonly isSet: boolean;
}

/** Sets the boot loader's default to the newest kernel whose modules are complete, or back to what it was where they all are. Throws `install-failed`, `not-found`. */
export const keepDefault = async (host: Host, incomplete: Incomplete): Promise<GuardAnswer> => {
  const loader = await mustHaveLoader(host);
  const held = await readHeld(host, loader);
  const set = held === null ? loader.current : held.before;
  const usual = releaseOf(loader, set ?? loader.usual);
  const choice = chooseBoot(await hostKernels(host), await incomplete(host), usual);
  if (choice === null) throw new KilnError('not-found', 'there is no kernel in /lib/modules');
  return apply(host, loader, held, choice);
};

const apply = async (
  host: Host,
  loader: BootLoader,
  held: Held | null,
  choice: BootChoice,
): Promise<GuardAnswer> => {
  switch (choice.kind) {
    case 'free': {
      if (held !== null) await setBack(host, loader, held);
      const text = `${loader.name} starts ${choice.release}, which has all its modules`;
      return {
        text,
        loader: loader.name,
        release: choice.release,
        instead: null,
        why: null,
        isSet: held !== null,
      };
    }
    case 'helpless':
      throw new KilnError(
        'install-failed',
        `no kernel here has all its modules, so the default stays as it is; of ${choice.instead}: ${choice.why}`,
      );
    case 'hold': {
      const { release, instead, why } = choice;
      const entry = loader.entries.get(release);
      if (entry === undefined)
        throw new KilnError(
          'install-failed',
          `${loader.name} has no entry for ${release}, the newest kernel that has all its modules; run update-grub or kernel-install, then kiln guard again`,
        );
      if (loader.problem !== null)
        throw new KilnError(
          'install-failed',
          `${instead} lacks modules (${why}), but ${loader.problem}; then run kiln guard again`,
        );
      const isSet = loader.current !== entry;
      if (isSet) {
        // The record that undoes the change is written before the change: a crash between the two leaves the default as it was.
        const before = held === null ? loader.current : held.before;
        await writeHeld(host, { loader: loader.name, entry, before });
        await loader.setDefault(entry);
      }
      const text = `${loader.name} starts ${release} by default, not ${instead}: ${why}; once that is mended, kiln guard sets it back`;
      return { text, loader: loader.name, release, instead, why, isSet };
    }
  }
};

/** Sets the boot loader back to what it was before guard set it. */
export const undoGuard = async (host: Host): Promise<GuardAnswer> => {
  const loader = await mustHaveLoader(host);
  const held = await readHeld(host, loader);
  if (held !== null) await setBack(host, loader, held);
  const text =
    held === null
      ? 'guard has set nothing'
      : `${loader.name} starts its former default again: ${held.before ?? 'the newest kernel'}`;
  const isSet = held !== null;
  return { text, loader: loader.name, release: null, instead: null, why: null, isSet };
};

const mustHaveLoader = async (host: Host): Promise<BootLoader> => {
  const loader = await bootLoaderOf(host);
  if (loader !== null) return loader;
  throw new KilnError(
    'not-found',
    'neither GRUB nor systemd-boot is set up here, so there is no default kernel to keep',
  );
};

/** The kernel that an entry starts; GRUB takes entries by their title, too. */
const releaseOf = (loader: BootLoader, entry: string | null): string | null =>
  [...loader.entries].find(
    ([release, each]) => each === entry || entry?.endsWith(`, with Linux ${release}`) === true,
  )?.[0] ?? null;

const setBack = async (host: Host, loader: BootLoader, held: Held): Promise<void> => {
  await loader.setDefault(held.before);
  await rm(await placeToChange(host, HELD), { force: true });
};

const HELD = 'var/lib/kiln/guard.json';

/** The entry that guard has set, if nobody has changed the default since; else `null`. */
const readHeld = async (host: Host, loader: BootLoader): Promise<Held | null> => {
  const place = await placeToRead(host, HELD);
  try {
    const held = Held.parse(JSON.parse(await readFile(place, 'utf8')));
    return held.loader === loader.name && held.entry === loader.current ? held : null;
  } catch (cause) {
    if (hasErrno(cause, 'ENOENT')) return null;
    throw new KilnError(
      'install-failed',
      `${place} is damaged; remove it, and look at the boot loader’s default yourself`,
      { cause },
    );
  }
};

const writeHeld = async (host: Host, held: Held): Promise<void> => {
  const place = await placeToChange(host, HELD);
  await forEverybody(() => mkdir(dirname(place), { recursive: true }));
  await writeWhole(place, Buffer.from(`${JSON.stringify(held, null, 2)}\n`));
};
