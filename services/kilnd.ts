import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { exitStatus, KilnError } from './core/errors.ts';

/** Each command loads what it needs alone: a role is a process of its own, and what it does not use is memory and time at its start. */

/** Where everything is kept unless it is said otherwise. */
const DATA = '/var/lib/kiln';

/** A running role or machine. `url` is where it answers, if it does. */
interface Running {
  readonly url?: string;
  close(): Promise<void>;
}

const startRole = async (role: string): Promise<Running> => {
  const environment = process.env;
  const { openLog } = await import('./storage/log.ts');
  switch (role) {
    case 'api': {
      const { apiConfig } = await import('./api/config.ts');
      const config = apiConfig(environment);
      const { startApi } = await import('./api/start-api.ts');
      return startApi(config, openLog(role, config.logLevel));
    }
    case 'builder': {
      const { builderConfig } = await import('./builder/config.ts');
      const config = builderConfig(environment);
      const { startBuilder } = await import('./builder/start-builder.ts');
      return startBuilder(config, openLog(role, config.logLevel));
    }
    case 'signer': {
      const { signerConfig } = await import('./signer/config.ts');
      const config = signerConfig(environment);
      const { startSigner } = await import('./signer/start-signer.ts');
      return startSigner(config, openLog(role, config.logLevel));
    }
    default:
      throw new KilnError(
        'bad-request',
        `there is no role ${JSON.stringify(role)}; there are api, builder and signer (kilnd --help)`,
      );
  }
};

const start = async (args: readonly string[]): Promise<Running | null> => {
  const { values, positionals } = parseCommandLine(args);
  if (values.help === true) {
    const { help } = await import('./kilnd-help.ts');
    process.stdout.write(help());
    return null;
  }
  const [role, ...others] = positionals;
  if (role !== 'gc' && values['dry-run'] === true)
    throw new KilnError('bad-request', `--dry-run is for kilnd gc alone (kilnd --help)`);
  if (others.length > 0)
    throw new KilnError(
      'bad-request',
      `kilnd takes one role, or none for all of them (kilnd --help)`,
    );
  if (role === 'keys') {
    const directory = resolve(values.data ?? '/var/lib/kiln/keys');
    const { keyPlaces, makeKeys } = await import('./machine/make-keys.ts');
    const { makeRedisUsers } = await import('./machine/redis-users.ts');
    await makeKeys(directory, keyPlaces(directory));
    await makeRedisUsers(directory);
    return null;
  }
  if (role === 'gc') {
    mustLack(values, ['listen', 'quiet']);
    const lines = await collect(resolve(values.data ?? DATA), values['dry-run'] === true);
    process.stdout.write(lines);
    return null;
  }
  if (role !== undefined) {
    mustLack(values, ['data', 'listen', 'quiet']);
    return startRole(role);
  }
  const { startMachine } = await import('./machine/start-machine.ts');
  return startMachine({
    data: values.data ?? DATA,
    listen:
      values.listen ??
      `${process.env['KILN_HOST'] ?? '127.0.0.1'}:${process.env['KILN_PORT'] ?? '8070'}`,
    environment: process.env,
    say: values.quiet === true ? () => {} : (line) => process.stdout.write(`${line}\n`),
  });
};

/** Throws `bad-request` where an option is given that has no effect. */
const mustLack = (values: object, names: readonly string[]): void => {
  const useless = names.find((name) => Object.hasOwn(values, name));
  if (useless !== undefined)
    throw new KilnError(
      'bad-request',
      `--${useless} is for kilnd without a role; a role is set by its environment (kilnd --help)`,
    );
};

const collect = async (data: string, isDry: boolean): Promise<string> => {
  const { gcConfig } = await import('./api/config.ts');
  const { collectBelow, mustHaveRecord } = await import('./api/gc.ts');
  const { lockData } = await import('./machine/start-machine.ts');
  const how = { ...gcConfig(process.env, join(data, 'blobs')), isDry };
  await mustHaveRecord(data);
  if (isDry) return collectBelow(data, how);
  const unlock = await lockData(data);
  try {
    return await collectBelow(data, how);
  } finally {
    await unlock();
  }
};

const parseCommandLine = (args: readonly string[]) => {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        data: { type: 'string' },
        listen: { type: 'string' },
        quiet: { type: 'boolean' },
        'dry-run': { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (error) {
    throw new KilnError(
      'bad-request',
      `${error instanceof Error ? error.message : ''} (kilnd --help)`,
      { cause: error },
    );
  }
};

const endWith = (error: unknown): never => {
  const known = error instanceof KilnError ? error : null;
  process.stderr.write(
    `kilnd: ${known?.message ?? (error instanceof Error ? error.stack : String(error))}\n`,
  );
  process.exit(exitStatus(known?.code ?? 'internal'));
};

/** Starts what the arguments say and ends it on SIGTERM, SIGINT, or when the process that started it is gone. */
const main = async (): Promise<void> => {
  const running = await start(process.argv.slice(2));
  if (running === null) return;
  let isEnding = false;
  const end = (): void => {
    if (isEnding) return;
    isEnding = true;
    running.close().then(() => process.exit(0), endWith);
  };
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
  process.on('disconnect', end);
  process.send?.({ ready: true, url: running.url });
  if (process.send === undefined && running.url !== undefined)
    process.stdout.write(`${running.url}\n`);
};

main().catch(endWith);
