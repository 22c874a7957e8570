import type { ParseArgsConfig } from 'node:util';
import type { ClientConfig } from './config.ts';
import type { AskDeps } from './ask/ask-deps.ts';
import type { Host } from './host/host.ts';
import { KilnError } from '../services/core/errors.ts';

/** The options a command takes, as `parseArgs` wants them. */
export type Options = NonNullable<ParseArgsConfig['options']>;

/** What a command gets to work with. */
export interface Context extends AskDeps {
  readonly config: ClientConfig;
  readonly args: readonly string[];
  /** A string option's value. */
  option(name: string): string | undefined;
  /** The values of an option that may be repeated. */
  options(name: string): readonly string[];
  flag(name: string): boolean;
  host(): Promise<Host>;
  /** Prints a result: `json` where --json is given, else the text. */
  print(text: string, json: unknown): void;
}

/** One command of the client. */
export interface Command {
  /** `install`, `kernel push`. */
  readonly name: string;
  readonly args: string;
  readonly summary: string;
  /** What `kiln NAME --help` says below the usage. */
  readonly help: string;
  readonly options: Options;
  run(context: Context): Promise<void>;
}

/** The only argument of a command. Throws `bad-request` if there is none or more. */
export const onlyArgument = (context: Context, what: string): string => {
  const [only, ...others] = context.args;
  if (only === undefined || others.length > 0)
    throw new KilnError('bad-request', `give one ${what}`);
  return only;
};

/** The values of an option that takes a list with commas; `undefined` where the option is not given. */
export const listOption = (context: Context, name: string): readonly string[] | undefined =>
  context
    .option(name)
    ?.split(',')
    .filter((word) => word !== '');

/** Rows as columns that line up. */
export const table = (rows: readonly (readonly string[])[]): string => {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] ?? '').length)),
  );
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
};
