import { spawn } from 'node:child_process';
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno, KilnError } from '../../services/core/errors.ts';
import type { Host } from './host.ts';

/** How a program of the host ended. */
export interface ProgramEnd {
  /** Its exit status; 127 where it cannot be run, 1 where a limit ended it. */
  readonly status: number;
  readonly stdout: Buffer;
  /** The beginning of its standard error, or the limit that ended it. */
  readonly words: string;
  /** Whether there is no such program. */
  readonly isMissing: boolean;
}

/** A program's input, environment and limits. */
export interface ProgramOptions {
  readonly input?: Buffer;
  /** Bytes of standard output that are kept; a program that writes more is ended. Without it the output is thrown away. */
  readonly limit?: number;
  /** Characters of standard error that are kept: 500 if it is not said. */
  readonly words?: number;
  /** Wall-clock seconds after which it is ended. */
  readonly seconds?: number;
  /** Where it runs: `/` if it is not said. */
  readonly cwd?: string;
  /** Variables that it gets besides path and locale. */
  readonly env?: Readonly<Record<string, string>>;
}

const SYSTEM_PATH = '/usr/sbin:/usr/bin:/sbin:/bin';
/** The environment of programs. Nothing of the caller's is in it: its PATH could lead to a program in somebody else's directory. */
export const PLAIN_ENVIRONMENT = { PATH: SYSTEM_PATH, LC_ALL: 'C' } as const;
const ANY_EXECUTE = 0o111;
const DEFAULT_WORDS = 500;
/** An initramfs of a large host takes some minutes on a slow disk. */
const DEFAULT_SECONDS = 1800;

let shared: number | null = null;

/**
 * Passes a descriptor to all programs that are run from now on (`null`: none). A lock on it then lasts until the last of them has
 * ended, even if this process is killed before.
 */
export const shareDescriptor = (descriptor: number | null): void => {
  shared = descriptor;
};

/**
 * Runs a program of the host to its end, in the C locale and with the system's own path. A failure is a result, not an exception:
 * the exit status decides.
 */
export const run = (
  program: string,
  args: readonly string[],
  {
    input,
    limit,
    words: kept = DEFAULT_WORDS,
    seconds = DEFAULT_SECONDS,
    cwd = '/',
    env = {},
  }: ProgramOptions = {},
): Promise<ProgramEnd> =>
  new Promise((resolve) => {
    const child = spawn(program, args, {
      stdio: [
        'pipe',
        limit === undefined ? 'ignore' : 'pipe',
        'pipe',
        ...(shared === null ? [] : [shared]),
      ],
      cwd,
      env: { ...env, ...PLAIN_ENVIRONMENT },
    });
    const pieces: Buffer[] = [];
    let size = 0;
    let words = '';
    let problem: string | null = null;
    const end = (why: string): void => {
      problem = why;
      child.kill('SIGKILL');
    };
    const timer = setTimeout(() => end(`${program} took more than ${seconds} s`), seconds * 1000);
    child.stdout?.on('data', (piece: Buffer) => {
      size += piece.length;
      if (limit === undefined || size <= limit) {
        pieces.push(piece);
        return;
      }
      end(`${program} wrote more than ${limit} bytes`);
    });
    child.stderr?.on('data', (piece: Buffer) => {
      words = (words + piece.toString()).slice(0, kept);
    });
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
    child.once('error', (error) => {
      clearTimeout(timer);
      resolve({
        status: 127,
        stdout: Buffer.alloc(0),
        words: `${program} cannot be run: ${error.message}`,
        isMissing: hasErrno(error, 'ENOENT'),
      });
    });
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      const ended = signal === null ? '' : `${program} was ended (${signal})`;
      resolve({
        status: problem === null ? (code ?? 1) : 1,
        stdout: Buffer.concat(pieces),
        words: problem ?? (words.trim() || ended),
        isMissing: false,
      });
    });
  });

/** The message where a program of another root would have to be run, and may not be. */
export const notRun = ({ root }: Host, command: string): string =>
  `run ${command} in ${root} (its programs are run only with --run-programs-of-root)`;

/** Runs a program that a host has, in the host's own root. Throws `install-failed` where its programs may not be run. */
export const runOn = async (
  host: Host,
  program: string,
  args: readonly string[],
  options: ProgramOptions = {},
): Promise<ProgramEnd> => {
  if (!host.runsPrograms)
    throw new KilnError('install-failed', notRun(host, [program, ...args].join(' ')));
  return host.root === '/'
    ? run(program, args, options)
    : run('chroot', [host.root, program, ...args], options);
};

/** The path on a host of the first of these programs that it has, or `null`. A link counts as one, wherever it leads. */
export const findProgram = async (
  host: Host,
  ...programs: readonly string[]
): Promise<string | null> => {
  for (const program of programs)
    for (const directory of SYSTEM_PATH.split(':')) {
      const found = await lstat(join(host.root, directory, program)).catch(() => null);
      const isProgram = found?.isFile() === true && (found.mode & ANY_EXECUTE) !== 0;
      if (isProgram || found?.isSymbolicLink() === true) return join(directory, program);
    }
  return null;
};

/** Whether a host has a program in one of its system's directories. */
export const hasProgram = async (host: Host, program: string): Promise<boolean> =>
  (await findProgram(host, program)) !== null;
