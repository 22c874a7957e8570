import { resolve } from 'node:path';
import { KilnError } from './core/errors.ts';

/** What kilnd does and ends. Each command loads what it needs alone. */

/** Where everything is kept unless it is said otherwise. */
export const DATA = '/var/lib/kiln';

/** What a command is given. */
export interface CommandCall {
  /** The directory of --data, if there is one. */
  readonly data: string | undefined;
  /** What follows the command's name; '' for those that take nothing. */
  readonly argument: string;
  readonly isDry: boolean;
  readonly environment: NodeJS.ProcessEnv;
  /** Says how far it is. */
  readonly say: (words: string) => void;
}

/** A command: does something, and gives what it prints. */
export interface Command {
  /** What it needs besides, as the usage has it; '' for nothing. */
  readonly argument: string;
  run(call: CommandCall): Promise<string>;
}

/** All commands, by name. */
export const COMMANDS: Readonly<Record<string, Command>> = {
  keys: {
    argument: '',
    async run({ data }) {
      const directory = resolve(data ?? '/var/lib/kiln/keys');
      const { keyPlaces, makeKeys } = await import('./machine/make-keys.ts');
      const { makeRedisUsers } = await import('./machine/redis-users.ts');
      await makeKeys(directory, keyPlaces(directory));
      await makeRedisUsers(directory);
      return '';
    },
  },
  gc: {
    argument: '',
    async run({ data, isDry, environment }) {
      const { keepDays } = await import('./api/config.ts');
      const { collectKept } = await import('./api/gc.ts');
      const { mustHaveRecord, withKept } = await import('./api/kept.ts');
      const how = { keepDays: keepDays(environment), isDry };
      const place = below(data);
      await mustHaveRecord(place, environment);
      if (isDry) return withKept(place, environment, 'reads', (kept) => collectKept(kept, how));
      return alone(place, () =>
        withKept(place, environment, 'changes', (kept) => collectKept(kept, how)),
      );
    },
  },
  backup: {
    argument: 'DIRECTORY',
    async run({ data, argument, environment, say }) {
      const { backUp } = await import('./api/backup.ts');
      const { withKept } = await import('./api/kept.ts');
      const to = resolve(argument);
      return sumOf(
        await withKept(below(data), environment, 'reads', (kept) => backUp(kept, to, say)),
      );
    },
  },
  restore: {
    argument: 'DIRECTORY',
    async run({ data, argument, environment, say }) {
      const { mustBeBackup, restore } = await import('./api/backup.ts');
      const { makeData, withKept } = await import('./api/kept.ts');
      const from = resolve(argument);
      await mustBeBackup(from);
      await makeData(below(data));
      return alone(below(data), async () =>
        sumOf(
          await withKept(below(data), environment, 'begins', (kept) => restore(from, kept, say)),
        ),
      );
    },
  },
  move: {
    argument: '',
    async run({ data, environment, say }) {
      const { moveToServers, mustHaveRecord } = await import('./api/kept.ts');
      await mustHaveRecord(below(data), {});
      return alone(below(data), async () =>
        sumOf(await moveToServers(below(data), environment, say)),
      );
    },
  },
};

const below = (data: string | undefined): string => resolve(data ?? DATA);

/** Works on a directory while no kilnd does. */
const alone = async <T>(data: string, work: () => Promise<T>): Promise<T> => {
  const { lockData } = await import('./machine/start-machine.ts');
  const unlock = await lockData(data);
  try {
    return await work();
  } finally {
    await unlock();
  }
};

const sumOf = (copied: {
  readonly rows: number;
  readonly blobs: number;
  readonly bytes: number;
}): string =>
  `${copied.rows} rows, ${copied.blobs} blobs that were not there yet, ${copied.bytes} bytes\n`;

/** Throws `bad-request` where a command has too few words, or too many. */
export const mustFit = (name: string, command: Command, words: readonly string[]): void => {
  const wanted = command.argument === '' ? 0 : 1;
  if (words.length === wanted) return;
  throw new KilnError(
    'bad-request',
    `give kilnd ${name}${command.argument === '' ? ' alone' : ` ${command.argument}`} (kilnd --help)`,
  );
};
