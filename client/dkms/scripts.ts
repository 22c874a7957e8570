import { spawn } from 'node:child_process';
import { access, constants } from 'node:fs/promises';
import { join } from 'node:path';
import { DkmsEnd } from './end.ts';
import { PLAIN_ENVIRONMENT } from '../host/programs.ts';
import type { HostConf } from './conf.ts';
import { mustBeRoots } from './evaluate.ts';
import type { DkmsSession } from './session.ts';
import { sourceLink, type Added } from './tree.ts';

/** Scripts of a source that run on the host. */
type HostScript = 'post_add' | 'pre_install' | 'post_install' | 'post_remove';

/**
 * Runs a script of a source on this host, as dkms does: in the source's directory, its words to where ours go. Sources are root's own
 * (`evaluateConfs` has made sure). Gives its exit status; 0 where there is none.
 */
export const runScript = async (
  session: DkmsSession,
  added: Added,
  name: HostScript,
  scripts: HostConf['scripts'],
): Promise<number> => {
  const words = scripts[name].split(/\s+/).filter((word) => word !== '');
  const [script, ...args] = words;
  if (script === undefined) return 0;
  const directory = sourceLink(session.places, added);
  const program = join(directory, script);
  const isExecutable = await access(program, constants.X_OK).then(
    () => true,
    () => false,
  );
  if (!isExecutable) {
    session.say('');
    session.complain(`Warning: The ${name} script is not executable.`);
    return 0;
  }
  await mustBeRoots(program);
  session.say(`Running the ${name} script:`);
  return runAloud(session, program, args, directory);
};

/** Runs the command that dkms's settings name for the end of a change (`post_transaction`), its words to a file in the tree. */
export const runPostTransaction = async (
  session: DkmsSession,
  log: (text: string) => Promise<void>,
): Promise<void> => {
  const { postTransaction } = session;
  if (postTransaction === '') return;
  session.write('Executing post-transaction command...');
  const pieces: string[] = [];
  const started = performance.now();
  const status = await spawnWith(
    'bash',
    ['--norc', '--noprofile', '-c', postTransaction],
    '/',
    (text) => pieces.push(text),
  );
  await log(
    stepLog(
      'Executing post-transaction command',
      postTransaction,
      pieces.join(''),
      status,
      performance.now() - started,
    ),
  );
  session.say(status === 0 ? ' done.' : `(bad exit status: ${status})`);
  if (status !== 0) session.say(`Failed command:\n${postTransaction}`);
};

/** One step of a log, in dkms's form. */
export const stepLog = (
  what: string,
  command: string,
  output: string,
  status: number,
  milliseconds: number,
): string => {
  const time = new Date(milliseconds).toISOString().slice(11, 19);
  return `\n${what}\n# command: ${command}\n${output}\n# exit code: ${status}\n# elapsed time: ${time}\n${'-'.repeat(64)}\n`;
};

const runAloud = (
  session: DkmsSession,
  program: string,
  args: readonly string[],
  cwd: string,
): Promise<number> => spawnWith(program, args, cwd, session.call.isQuiet ? () => {} : null);

/** `onText`: gets what the program says; `null` where that goes to our own output. */
const spawnWith = (
  program: string,
  args: readonly string[],
  cwd: string,
  onText: ((text: string) => void) | null,
): Promise<number> =>
  new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd,
      env: { ...PLAIN_ENVIRONMENT, LC_ALL: 'C.UTF-8' },
      stdio: onText === null ? ['ignore', 1, 2] : ['ignore', 'pipe', 'pipe'],
    });
    child.stdout?.on('data', (bytes: Buffer) => onText?.(bytes.toString('utf8')));
    child.stderr?.on('data', (bytes: Buffer) => onText?.(bytes.toString('utf8')));
    child.once('error', (cause) =>
      reject(new DkmsEnd(1, [`${program} cannot be run: ${cause.message}`])),
    );
    child.once('close', (code) => resolve(code ?? 1));
  });
