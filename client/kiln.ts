import { parseArgs } from 'node:util';
import { errorTable, exitStatus, KilnError } from '../services/core/errors.ts';
import { BuildEnded } from './ask/ask.ts';
import type { Command, Context } from './command.ts';
import { COMMANDS, COMMON_HELP, COMMON_OPTIONS } from './commands.ts';
import { openDeps } from './ask/open-deps.ts';
import { isColourWanted, readConfig } from './config.ts';
import { runDkms } from './dkms/dkms.ts';
import { openHost } from './host/host.ts';
import { plain, writeOutput } from './terminal/output.ts';
import { createProgress } from './terminal/progress.ts';

const usage = (): string => {
  const width = Math.max(...COMMANDS.map(({ name, args }) => name.length + args.length + 1));
  const lines = COMMANDS.map(
    ({ name, args, summary }) => `  ${`${name} ${args}`.padEnd(width)}  ${summary}`,
  );
  const byExit = new Map<number, string[]>();
  for (const { code, exit } of errorTable()) byExit.set(exit, [...(byExit.get(exit) ?? []), code]);
  const exits = [...byExit]
    .sort(([a], [b]) => a - b)
    .map(([exit, codes]) => `  ${String(exit).padEnd(4)} ${codes.join(', ')}`);
  return `kiln - kernel modules built, signed and verified elsewhere; installed here without a compiler

usage: kiln [OPTIONS] COMMAND [ARGUMENT] [OPTIONS]

${lines.join('\n')}

${COMMON_HELP}

exit status
  0    done
${exits.join('\n')}
`;
};

/** Splits a command line into its command and the rest, in the order given. Options that every command takes may come before the command. */
const findCommand = (
  args: readonly string[],
): { readonly command: Command | null; readonly rest: readonly string[] } => {
  const { tokens } = parseArgs({
    args: [...args],
    options: COMMON_OPTIONS,
    allowPositionals: true,
    strict: false,
    tokens: true,
  });
  const words = tokens.filter((token) => token.kind === 'positional');
  const [first] = words;
  const early = tokens.find(
    (token) =>
      token.kind === 'option' &&
      !Object.hasOwn(COMMON_OPTIONS, token.name) &&
      token.index < (first?.index ?? args.length),
  );
  if (early?.kind === 'option')
    throw new KilnError(
      'bad-request',
      `${early.rawName} stands before the command, where only options that every command takes may stand; write it behind`,
    );
  if (first === undefined) return { command: null, rest: args };
  const command = COMMANDS.find(({ name }) => {
    const { length } = name.split(' ');
    return (
      name ===
      words
        .slice(0, length)
        .map(({ value }) => value)
        .join(' ')
    );
  });
  if (command === undefined)
    throw new KilnError(
      'bad-request',
      `there is no command ${JSON.stringify(first.value)}; kiln --help lists them`,
    );
  const taken = words.slice(0, command.name.split(' ').length).map(({ index }) => index);
  return { command, rest: args.filter((_, index) => !taken.includes(index)) };
};

const parse = (command: Command, rest: readonly string[]) => {
  try {
    return parseArgs({
      args: [...rest],
      allowPositionals: true,
      options: { ...command.options, ...COMMON_OPTIONS },
    });
  } catch (cause) {
    throw new KilnError(
      'bad-request',
      `${cause instanceof Error ? cause.message : ''} (kiln ${command.name} --help)`,
      { cause },
    );
  }
};

const main = async (args: readonly string[], signal: AbortSignal): Promise<void> => {
  if (args[0] === 'dkms') return dkms(args.slice(1), signal);
  if (args[0] === 'help') return main([...args.slice(1), '--help'], signal);
  const { command, rest } = findCommand(args);
  if (command === null) {
    if (rest.length > 0 && !rest.some((word) => word === '--help' || word === '-h'))
      throw new KilnError('bad-request', 'no command is given; kiln --help lists them');
    writeOutput(usage());
    return;
  }
  const { values, positionals } = parse(command, rest);
  if (values['help'] === true) {
    writeOutput(
      `kiln ${command.name} ${command.args}\n${command.summary}\n\n${command.help === '' ? '' : `${command.help}\n\n`}${COMMON_HELP}\n`,
    );
    return;
  }
  const option = (name: string): string | undefined => {
    const value = (values as Record<string, unknown>)[name];
    return typeof value === 'string' ? value : undefined;
  };
  const options = (name: string): readonly string[] => {
    const value = (values as Record<string, unknown>)[name];
    return Array.isArray(value) ? value.map(String) : [];
  };
  const flag = (name: string): boolean => (values as Record<string, unknown>)[name] === true;
  const config = readConfig({
    server: option('server'),
    'token-file': option('token-file'),
    certificate: option('certificate'),
    ca: option('ca'),
    patience: option('patience'),
  });
  const progress = createProgress(process.stderr, flag('quiet'));
  const context: Context = {
    config,
    args: positionals,
    option,
    options,
    flag,
    ...openDeps(config, progress, signal),
    leavesBuilds: flag('hook'),
    ...(flag('log') ? { onLog: (text: string) => void process.stderr.write(plain(text)) } : {}),
    host: () => openHost(option('root'), flag('run-programs-of-root')),
    print: (text, json) => {
      hasPrinted = true;
      writeOutput(flag('json') ? `${JSON.stringify(json, null, 2)}\n` : `${plain(text)}\n`);
    },
  };
  try {
    await command.run(context);
  } finally {
    progress.done();
  }
};

/** The other face: `dkms`, with dkms's own command line, words and exit statuses (package kiln-dkms). */
const dkms = async (args: readonly string[], signal: AbortSignal): Promise<void> => {
  const config = readConfig({});
  const progress = {
    ...createProgress(process.stderr, true),
    say: (text: string) => void process.stderr.write(`${plain(text)}\n`),
  };
  const context: Context = {
    config,
    args,
    option: () => undefined,
    options: () => [],
    flag: () => false,
    ...openDeps(config, progress, signal),
    host: () => openHost(undefined),
    print: (text) => writeOutput(`${plain(text)}\n`),
  };
  const status = await runDkms(context, await context.host(), args);
  if (status !== 0) process.exit(status);
};

/** Whether the command's result was printed to standard output. */
let hasPrinted = false;

/** A failure as JSON, for scripts. For a build that ended without modules it includes the build. */
const failureJson = (error: unknown, message: string): string => {
  const code = error instanceof KilnError ? error.code : 'internal';
  const record = error instanceof BuildEnded ? error.build : {};
  return JSON.stringify({ ...record, error: { code, message, exit: exitStatus(code) } }, null, 2);
};

/** Milliseconds within which a second signal is the first one: timeout(1) and service managers signal a process, and its group. */
const SAME_SIGNAL_MS = 500;
const interrupted = new AbortController();
let interruptedAt = 0;
/** Handles ^C: the first ends the command cleanly, a second one at once. */
const interrupt = (): void => {
  if (!interrupted.signal.aborted) {
    interruptedAt = performance.now();
    interrupted.abort();
  } else if (performance.now() - interruptedAt > SAME_SIGNAL_MS) {
    process.exit(exitStatus('build-cancelled'));
  }
};
process.on('SIGINT', interrupt);
process.on('SIGTERM', interrupt);
main(process.argv.slice(2), interrupted.signal).then(
  () => process.exit(0),
  (error: unknown) => {
    const isInterrupt = interrupted.signal.aborted && !(error instanceof KilnError);
    const known = isInterrupt ? new KilnError('build-cancelled', 'interrupted') : error;
    const label = isColourWanted(process.stderr) ? '\u001b[31mkiln:\u001b[39m' : 'kiln:';
    const message =
      known instanceof KilnError
        ? known.message
        : `a defect: ${known instanceof Error ? (known.stack ?? known.message) : String(known)}`;
    process.stderr.write(`${label} ${plain(message)}\n`);
    // Where the command has printed its result before it failed, the failure is in the result already.
    if (process.argv.includes('--json') && !hasPrinted)
      writeOutput(`${failureJson(known, message)}\n`);
    process.exit(exitStatus(known instanceof KilnError ? known.code : 'internal'));
  },
);
