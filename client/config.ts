import { readFileSync } from 'node:fs';
import { hasErrno, KilnError } from '../services/core/errors.ts';

/** Where the client finds its service, and whom it trusts. */
export interface ClientConfig {
  readonly server: string;
  readonly tokenFile: string | null;
  /** PEM file of the certificate that modules must be signed with. */
  readonly certificate: string | null;
  /** Whether kernels that come get what is wanted, without being asked. */
  readonly autoinstall: boolean;
  /** Kernel releases that are left alone by it: names, with `*` for any text. */
  readonly skipKernels: readonly string[];
  /** Whether a module of another kernel may be linked instead of being built, where it is proven to fit. */
  readonly reuse: boolean;
  /** Whether initramfs images that hold one of the modules are made anew. */
  readonly initramfs: boolean;
  /** Whether `kiln guard --hook` keeps the boot loader's default on a kernel that has all its modules. */
  readonly guard: boolean;
}

/** Flags that stand above the file. */
export interface ConfigFlags {
  readonly server?: string | undefined;
  readonly 'token-file'?: string | undefined;
  readonly certificate?: string | undefined;
}

export const DEFAULT_SERVER = 'http://127.0.0.1:8070';

/** The path of the configuration file: `$KILN_CONFIG`, or `/etc/kiln/config`. */
export const configPath = (): string => process.env['KILN_CONFIG'] ?? '/etc/kiln/config';

/** Flags first, then `$KILN_SERVER` and `$KILN_TOKEN_FILE`, then the file (`key = value` lines; `#` begins a comment). */
export const readConfig = (flags: ConfigFlags): ClientConfig => {
  const file = parseConfig(configPath());
  return {
    server: flags.server ?? process.env['KILN_SERVER'] ?? file.get('server') ?? DEFAULT_SERVER,
    tokenFile:
      flags['token-file'] ?? process.env['KILN_TOKEN_FILE'] ?? file.get('token-file') ?? null,
    certificate: flags.certificate ?? file.get('certificate') ?? null,
    autoinstall: isYes(file, 'autoinstall', true),
    skipKernels: (file.get('skip-kernels') ?? '').split(/[\s,]+/).filter((name) => name !== ''),
    reuse: isYes(file, 'weak-updates', false),
    initramfs: file.get('initramfs') !== 'never',
    guard: isYes(file, 'guard', false),
  };
};

/** Whether output may carry colour: only on a terminal, and not with `$NO_COLOR`. */
export const isColourWanted = (stream: NodeJS.WriteStream): boolean =>
  stream.isTTY && (process.env['NO_COLOR'] ?? '') === '';

const KEYS = [
  ...['server', 'token-file', 'certificate'],
  ...['autoinstall', 'skip-kernels', 'weak-updates', 'initramfs', 'guard'],
];

/** Throws `bad-request` for what is neither yes nor no. */
const isYes = (file: ReadonlyMap<string, string>, key: string, otherwise: boolean): boolean => {
  const word = file.get(key);
  if (word === undefined) return otherwise;
  if (word === 'yes' || word === 'no') return word === 'yes';
  throw new KilnError('bad-request', `${configPath()}: ${key} is yes or no, not ${word}`);
};

const parseConfig = (path: string): Map<string, string> => {
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
    const [key = '', value = ''] = plain.split(/\s*=\s*/, 2);
    if (!KEYS.includes(key) || value === '') {
      throw new KilnError(
        'bad-request',
        `${path} line ${index + 1}: ${JSON.stringify(plain)} is not understood; keys are ${KEYS.join(', ')}`,
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
