import { KilnError } from '../errors.ts';

/**
 * The ids that builds run as, each a user and a group. Each build that runs on a Docker host has one of its own, and nobody on the host may
 * have it: with a build's id one can write into the build while it runs (`/proc/PID/root`).
 */
export interface BuildUsers {
  readonly first: number;
  readonly last: number;
}

/**
 * The default ids. They lie above those of people and services, of systemd-nspawn (to 1879048191), of useradd's subordinate ids (to
 * 600100000) and of sssd's domains (to 2000200000), and below systemd's foreign ids (from 2147352576).
 */
export const DEFAULT_BUILD_USERS = '2100000000-2100000999';

/** The highest id that Docker accepts. */
const HIGHEST = 2 ** 31 - 1;

/** Reads `FIRST-LAST`. Throws `KilnError('bad-request')`. */
export const parseBuildUsers = (text: string): BuildUsers => {
  const match = /^(\d{1,10})-(\d{1,10})$/.exec(text);
  const [first, last] = [Number(match?.[1] ?? 0), Number(match?.[2] ?? 0)];
  if (first < 1 || last < first || last > HIGHEST) {
    throw new KilnError(
      'bad-request',
      `${JSON.stringify(text)} is no range of user ids; KILN_BUILD_USERS is FIRST-LAST between 1 and ${HIGHEST}, such as ${DEFAULT_BUILD_USERS}`,
    );
  }
  return { first, last };
};

/** Files of a host's `/etc` that assign ids: the number of fields in a line, and those that begin a range of ids. */
const REGISTERS = {
  passwd: { ids: [2, 3], count: null },
  group: { ids: [2], count: null },
  subuid: { ids: [1], count: 2 },
  subgid: { ids: [1], count: 2 },
} as const;

/** A file of a host's `/etc` that gives ids to people. */
export type Register = keyof typeof REGISTERS;
/** The names of those files. */
export const REGISTER_NAMES = Object.keys(REGISTERS) as readonly Register[];

/** Throws `KilnError('bad-request')` where a host's file assigns one of the ids, naming the owner. */
export const mustBeNobodys = (
  { first, last }: BuildUsers,
  register: Register,
  text: string,
): void => {
  const { ids, count } = REGISTERS[register];
  for (const line of text.split('\n')) {
    const fields = line.split(':');
    for (const id of ids.map((at) => numberOf(fields[at]))) {
      const size = count === null ? 1 : numberOf(fields[count]);
      if (id === null || size === null || size === 0) continue;
      if (id > last || id + size - 1 < first) continue;
      throw new KilnError(
        'bad-request',
        `builds would run as users ${first}-${last}, of which /etc/${register} on the Docker host gives ${size === 1 ? id : `${id}-${id + size - 1}`} to ${fields[0]}, who could then write into a running build; set KILN_BUILD_USERS to a range FIRST-LAST that nobody has there`,
      );
    }
  }
};

const numberOf = (text: string | undefined): number | null =>
  text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : null;
