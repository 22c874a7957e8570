import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KilnError } from '../../services/core/errors.ts';

/** Where mokutil gets the password that MokManager will ask for. */
export type EnrolmentPassword =
  | { readonly from: 'terminal' }
  | { readonly from: 'root' }
  | { readonly from: 'file'; readonly file: string };

const OUTPUT_LIMIT = 64 * 1024;
const WITHIN = 60_000;
const LONGEST = 256;
const STDERR = 2;

/**
 * Asks shim, by mokutil, to enrol a certificate (DER) at the next boot. With the password `from` the terminal mokutil asks for it there.
 * Throws `install-failed` with mokutil's own words.
 */
export const importCertificate = async (
  mokutil: string,
  certificate: Buffer,
  password: EnrolmentPassword,
): Promise<void> => {
  const directory = await mkdtemp(join(tmpdir(), 'kiln-enroll-'));
  try {
    const file = join(directory, 'signer.der');
    await writeFile(file, certificate);
    const args = ['--import', file];
    if (password.from === 'root') args.push('--root-pw');
    if (password.from === 'file') {
      const hash = join(directory, 'password.hash');
      await writeFile(hash, await hashPassword(mokutil, password.file), { mode: 0o600 });
      args.push('--hash-file', hash);
    }
    await runMokutil(mokutil, args, password.from === 'terminal' ? null : '');
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
};

/** Hashes a password with mokutil. The password goes in on standard input: other users could read it from the arguments. */
const hashPassword = async (mokutil: string, file: string): Promise<string> => {
  const password = (
    await readFile(file, 'utf8').catch((cause: unknown) => {
      throw new KilnError('bad-request', `the password file ${file} cannot be read`, { cause });
    })
  ).replace(/\r?\n$/, '');
  if (password === '' || password.length > LONGEST || /\p{Cc}/u.test(password)) {
    throw new KilnError(
      'bad-request',
      `${file} must hold one line, the password, of at most ${LONGEST} characters`,
    );
  }
  const said = await runMokutil(mokutil, ['--generate-hash'], `${password}\n${password}\n`);
  const hash = /\$\S+\s*$/.exec(said)?.[0].trim();
  if (hash === undefined)
    throw new KilnError('install-failed', 'mokutil made no hash of the password');
  return `${hash}\n`;
};

/** Runs mokutil to its end; its output. Without `input`, mokutil asks on the terminal and nothing of it goes to our standard output. */
const runMokutil = (
  mokutil: string,
  args: readonly string[],
  input: string | null,
): Promise<string> =>
  new Promise((resolve, reject) => {
    const child =
      input === null
        ? spawn(mokutil, args, { stdio: ['inherit', STDERR, STDERR] })
        : spawn(mokutil, args, { stdio: 'pipe', timeout: WITHIN });
    let output = '';
    const keep = (piece: Buffer): void => {
      output = (output + piece.toString()).slice(0, OUTPUT_LIMIT);
    };
    child.stdout?.on('data', keep);
    child.stderr?.on('data', keep);
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
    child.once('error', (cause) =>
      reject(
        new KilnError('install-failed', `${mokutil} cannot be run (${cause.message})`, { cause }),
      ),
    );
    child.once('close', (code) => {
      if (code === 0) return resolve(output);
      const words = output
        .replaceAll(/\p{Cc}+/gu, ' ')
        .trim()
        .slice(0, 300);
      reject(
        new KilnError(
          'install-failed',
          `mokutil failed (${words || `exit status ${code ?? '?'}`})`,
        ),
      );
    });
  });
