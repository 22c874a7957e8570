import type { Digest } from '../digest.ts';
import { KilnError } from '../errors.ts';
import type { Tree } from '../tree/tree.ts';

/**
 * Files that hosts get beside a source's modules, because the source's owner says so: firmware, and settings of udev, modprobe, depmod
 * and systemd-modules-load.
 */

/** Digests of such files, by their places on a host. */
export type HostFiles = Readonly<Record<string, Digest>>;
/** The owner's claims: for each place the file of the source's tree that goes there. */
export type HostFileClaims = Readonly<Record<string, string>>;

const NAME = '[A-Za-z0-9][A-Za-z0-9_.+-]{0,127}';
const FIRMWARE = new RegExp(`^/lib/firmware/(?<path>${NAME}(?:/${NAME}){0,7})$`);
const SETTINGS = new RegExp(
  `^/lib/(?:udev/rules\\.d/${NAME}\\.rules|(?:modprobe|depmod|modules-load)\\.d/${NAME}\\.conf)$`,
);

/** Whether files may go to a place. */
export const isHostFilePlace = (place: string): boolean =>
  (FIRMWARE.test(place) && !place.startsWith('/lib/firmware/updates/')) || SETTINGS.test(place);

/** The path below `/lib/firmware` of a place that firmware goes to; `null` for others. */
export const firmwarePath = (place: string): string | null =>
  FIRMWARE.exec(place)?.groups?.['path'] ?? null;

/** The most files of a source, and the bytes of one: firmware is the largest, settings are a page of text. */
export const HOST_FILES = 64;
export const FIRMWARE_LIMIT = 64 * 1024 ** 2;
export const HOST_SETTINGS_LIMIT = 64 * 1024;

/** The most bytes that a file for a place may have. */
export const hostFileLimit = (place: string): number =>
  firmwarePath(place) === null ? HOST_SETTINGS_LIMIT : FIRMWARE_LIMIT;

/** What the files are that a source's owner names, by the source's tree. Throws `bad-request` or `bad-source`. */
export const claimedFiles = (claims: HostFileClaims, tree: Tree): HostFiles => {
  const places = Object.keys(claims).sort();
  if (places.length > HOST_FILES)
    throw new KilnError(
      'bad-request',
      `there are ${places.length} files for hosts; give ${HOST_FILES} at most`,
    );
  const below = places.find((place) => places.some((each) => place.startsWith(`${each}/`)));
  if (below !== undefined)
    throw new KilnError(
      'bad-request',
      `${below} would be below a file that goes to hosts, too; give it another place`,
    );
  return Object.fromEntries(
    places.map((place) => {
      if (!isHostFilePlace(place))
        throw new KilnError(
          'bad-request',
          `${JSON.stringify(place)} is not where a file for hosts can be; give /lib/firmware/PATH, /lib/udev/rules.d/NAME.rules or NAME.conf in /lib/modprobe.d, /lib/depmod.d or /lib/modules-load.d`,
        );
      const path = claims[place] ?? '';
      const entry = tree.entries.find((each) => each.path === path);
      if (entry?.kind !== 'file')
        throw new KilnError(
          'bad-source',
          `the source has no file ${JSON.stringify(path)}, which is to go to ${place}; name it as it stands in the source’s directory`,
        );
      return [place, entry.digest];
    }),
  );
};
