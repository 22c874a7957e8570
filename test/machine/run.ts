import { spawn } from 'node:child_process';

/** How a program ended and what it said. */
export interface Ran {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** What may be set for a run. */
export interface RunOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  readonly input?: string | Buffer;
  /** Gets what it writes to its standard error meanwhile. */
  readonly onStderr?: (text: string) => void;
}

const SYSTEM_PATH = '/usr/local/sbin:/usr/sbin:/sbin';

/** Runs a program to its end. A failure is a result, not an exception. */
export const run = (
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Ran> =>
  new Promise((resolve, reject) => {
    const base = options.env ?? process.env;
    const child = spawn(program, args, {
      env: { ...base, PATH: `${base['PATH'] ?? process.env['PATH'] ?? ''}:${SYSTEM_PATH}` },
      cwd: options.cwd,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on('data', (piece: Buffer) => stdout.push(piece));
    child.stderr.on('data', (piece: Buffer) => {
      stderr.push(piece);
      options.onStderr?.(piece.toString('utf8'));
    });
    child.once('error', reject);
    child.stdin.on('error', () => {});
    child.stdin.end(options.input ?? '');
    child.once('close', (code, signal) =>
      resolve({
        status: code ?? (signal === null ? 1 : 128),
        stdout: Buffer.concat(stdout).toString('utf8'),
        stderr: Buffer.concat(stderr).toString('utf8'),
      }),
    );
  });

/** Runs a program that must succeed; its standard output. */
export const mustRun = async (
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<string> => {
  const { status, stdout, stderr } = await run(program, args, options);
  if (status !== 0)
    throw new Error(`${program} ${args.join(' ')} ended with ${status}:\n${stderr || stdout}`);
  return stdout;
};
