import { readFileSync } from 'node:fs';
import { hasErrno, KilnError } from '../services/core/errors.ts';
import type { Network } from './wire/http.ts';

/** Where the client finds its service, and whom it trusts. */
export interface ClientConfig {
  readonly server: string;
  /** Whether somebody has named that server; else it is the default. */
  readonly isServerNamed: boolean;
  readonly tokenFile: string | null;
  /** PEM file of the certificate that modules must be signed with. */
  readonly certificate: string | null;
  /** Whether new kernels get the wanted modules by themselves (hooks and timer). */
  readonly autoinstall: boolean;
  /** Kernel releases that hooks and timer leave alone: names, with `*` for any text. */
  readonly skipKernels: readonly string[];
  /** Whether modules that policy left unsigned are installed. */
  readonly allowUnsigned: boolean;
  /** Whether a module of another kernel may be linked, where it is proven to fit, instead of being built. */
  readonly weakUpdates: boolean;
  /** Whether initramfs images that hold one of the modules are made anew. */
  readonly initramfs: boolean;
  /** Whether `kiln guard --hook` keeps the boot loader's default on a kernel that has all its modules. */
  readonly guard: boolean;
  readonly network: Network;
  /** Seconds that a command keeps trying to reach its service. */
  readonly patience: number;
}

/** Command-line flags that override the configuration file. */
export interface ConfigFlags {
  readonly server?: string | undefined;
  readonly 'token-file'?: string | undefined;
  readonly certificate?: string | undefined;
  readonly ca?: string | undefined;
  readonly patience?: string | undefined;
}

export const DEFAULT_SERVER = 'http://127.0.0.1:8070';

/** The path of the configuration file: `$KILN_CONFIG`, or `/etc/kiln/config`. */
export const configPath = (): string => process.env['KILN_CONFIG'] ?? '/etc/kiln/config';

/**
 * Flags first, then `$KILN_SERVER`, `$KILN_TOKEN_FILE` and `$KILN_CA`, then the file (`key = value` lines; `#` begins a comment).
 * Where the file names no proxy, curl's variables do: of `http_proxy`, only the lower-case one.
 */
export const readConfig = (flags: ConfigFlags): ClientConfig => {
  const file = fileSettings();
  const server = flags.server ?? process.env['KILN_SERVER'] ?? file.get('server');
  return {
    server: server ?? DEFAULT_SERVER,
    isServerNamed: server !== undefined,
    tokenFile:
      flags['token-file'] ?? process.env['KILN_TOKEN_FILE'] ?? file.get('token-file') ?? null,
    certificate: flags.certificate ?? file.get('certificate') ?? null,
    autoinstall: isYes(file, 'autoinstall', true),
    skipKernels: (file.get('skip-kernels') ?? '').split(/[\s,]+/).filter((name) => name !== ''),
    allowUnsigned: isYes(file, 'allow-unsigned', false),
    weakUpdates: isYes(file, 'weak-updates', false),
    initramfs: file.get('initramfs') !== 'never',
    guard: isYes(file, 'guard', false),
    network: {
      ca: flags.ca ?? process.env['KILN_CA'] ?? file.get('ca') ?? null,
      proxies: {
        configured: file.get('proxy') ?? null,
        http: process.env['http_proxy'] ?? null,
        https: process.env['https_proxy'] ?? process.env['HTTPS_PROXY'] ?? null,
        all: process.env['all_proxy'] ?? process.env['ALL_PROXY'] ?? null,
        none: process.env['no_proxy'] ?? process.env['NO_PROXY'] ?? null,
      },
    },
    patience: parsePatience(flags.patience ?? file.get('patience') ?? '60'),
  };
};

const parsePatience = (text: string): number => {
  if (/^\d{1,4}$/.test(text)) return Number(text);
  throw new KilnError(
    'bad-request',
    `patience is ${JSON.stringify(text)}; give whole seconds, 0 (one try) to 9999`,
  );
};

/** Whether output may carry colour: only on a terminal, and not with `$NO_COLOR`. */
export const isColourWanted = (stream: NodeJS.WriteStream): boolean =>
  stream.isTTY && (process.env['NO_COLOR'] ?? '') === '';

const KEYS =
  'server token-file certificate ca proxy patience autoinstall skip-kernels allow-unsigned weak-updates initramfs guard'.split(
    ' ',
  );

/** A setting that is `yes` or `no`. Throws `bad-request` for anything else. */
const isYes = (file: ReadonlyMap<string, string>, key: string, otherwise: boolean): boolean => {
  const word = file.get(key);
  if (word === undefined) return otherwise;
  if (word === 'yes' || word === 'no') return word === 'yes';
  throw new KilnError('bad-request', `${configPath()}: ${key} is yes or no, not ${word}`);
};

/** What the configuration file says, by key. Throws `bad-request` if it cannot be understood. */
export const fileSettings = (): ReadonlyMap<string, string> => parseConfig(configPath());

const parseConfig = (path: string): ReadonlyMap<string, string> => {
  let text = '';
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (!hasErrno(error, 'ENOENT'))
      throw new KilnError('bad-request', `${path} cannot be read`, { cause: error });
  }
  const values = new Map<string, string>();
  for (const [index, line] of text.split('\n').entries()) {
    const plain = line.replace(/#.*/, '').trim();
    if (plain === '') continue;
    const [, key = '', value = ''] = /^([^\s=]*)\s*=\s*(.*)$/.exec(plain) ?? [];
    if (!KEYS.includes(key) || value === '') {
      throw new KilnError(
        'bad-request',
        `${path} line ${index + 1}: ${JSON.stringify(key)} is not understood; lines are KEY = VALUE, keys are ${KEYS.join(', ')}`,
      );
    }
    values.set(key, value);
  }
  return values;
};

/** Reads a token file. The token never appears in a message. */
export const readToken = (path: string | null): string | null => {
  if (path === null) return null;
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    throw new KilnError(
      'unauthenticated',
      `the token file ${path} cannot be read; ask an admin for a token, or name its file with --token-file`,
      { cause: error },
    );
  }
};
