import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { API_SETTINGS, apiConfig, keepDays } from './api/config.ts';
import { collectBelow, mustHaveRecord } from './api/gc.ts';
import { startApi } from './api/start-api.ts';
import { BUILDER_SETTINGS, builderConfig } from './builder/config.ts';
import { startBuilder } from './builder/start-builder.ts';
import { exitStatus, KilnError } from './core/errors.ts';
import { keyPlaces, makeKeys } from './machine/make-keys.ts';
import { makeRedisUsers } from './machine/redis-users.ts';
import { lockData, startMachine } from './machine/start-machine.ts';
import { SIGNER_SETTINGS, signerConfig } from './signer/config.ts';
import { startSigner } from './signer/start-signer.ts';
import { openLog } from './storage/log.ts';
import { COMMON_SETTINGS, describeSettings, type SettingsShape } from './storage/settings.ts';

/** A role's settings as lines; what every role has is listed once. */
const settingLines = (shape: SettingsShape): string =>
  describeSettings(shape)
    .filter(({ name }) => shape === COMMON_SETTINGS || !Object.hasOwn(COMMON_SETTINGS, name))
    .map(({ name, words }) => `  ${name.padEnd(26)} ${words}`)
    .join('\n');

const help = (): string => `kilnd - builds, signs and serves Linux kernel modules

usage
  kilnd [--data DIR] [--listen HOST:PORT] [--quiet]
                     all of Kiln on this machine: api, builder, signer and a Redis of its own,
                     each a process that is started again if it dies
  kilnd api | builder | signer
                     one role, set by its environment alone (see compose.yaml)
  kilnd keys --data DIR
                     makes what is not there yet of the roles' keys, the signing key and Redis's users below DIR:
                     api/, builder/, signer/ and redis/ each for one role alone, public/ for all; kilnd without a role does that itself
  kilnd gc --data DIR [--dry-run]
                     removes what nobody can ask for any more or has no use for, once it is KILN_KEEP_DAYS old (what builds in
                     vain left, misses, rebuilds, what only ended tokens pushed or asked for), and blobs that no record names
                     and nobody is sending, and lists it. A running API does it by itself every KILN_COLLECT_HOURS; this is
                     for a kilnd that is stopped. With --dry-run, which changes nothing and works beside a running one, it
                     only lists what would go, and why

options
  --data DIR         where everything is kept          (default: /var/lib/kiln)
  --listen HOST:PORT where the API listens             (default: KILN_HOST:KILN_PORT; port 0: any free one)
  --quiet            writes nothing to standard output but the URL
  --dry-run          of gc: changes nothing
  -h, --help         this text

files in DIR
  admin.token        the admin's token, made at the first start (mode 0600)
  keys/              the keys by which the roles know each other's messages (mode 0600, each role reads its own)
  signing.pem        the signing key (mode 0600; the signer alone reads it), with its certificate signing.crt;
                     put your own pair there before the first start to sign with it
  kiln.sqlite        the record; blobs/ the bytes; redis/ the queues; builder/ unpacked trees

settings, from the environment; what “must be set” for a role is made by kilnd itself where it runs them all
every role
${settingLines(COMMON_SETTINGS)}
api
${settingLines(API_SETTINGS)}
builder
${settingLines(BUILDER_SETTINGS)}
signer
${settingLines(SIGNER_SETTINGS)}

exit status
  0 ended by SIGTERM or SIGINT, or done · 2 wrong usage or setting, or DIR is another kilnd’s at the moment ·
  3 there is no record in DIR · 5 something it needs is not there · 70 a defect
`;

/** Where everything is kept unless it is said otherwise. */
const DATA = '/var/lib/kiln';

/** A running role or machine. `url` is where it answers, if it does. */
interface Running {
  readonly url?: string;
  close(): Promise<void>;
}

const startRole = async (role: string): Promise<Running> => {
  const environment = process.env;
  switch (role) {
    case 'api': {
      const config = apiConfig(environment);
      return startApi(config, openLog(role, config.logLevel));
    }
    case 'builder': {
      const config = builderConfig(environment);
      return startBuilder(config, openLog(role, config.logLevel));
    }
    case 'signer': {
      const config = signerConfig(environment);
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
  const how = { keepDays: keepDays(process.env), isDry };
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
