import { spawn } from 'node:child_process';

/** How a program ended on a terminal, and all that stood there. */
export interface OnTerminal {
  readonly status: number;
  readonly shown: string;
}

/** The end of a person's input: Ctrl-D. */
export const END_OF_INPUT = '\u0004';

/** Runs a program on a terminal of its own (script(1)), and types an answer once it has asked. */
export const onTerminal = (
  command: readonly string[],
  env: NodeJS.ProcessEnv,
  asked: RegExp,
  answer: string,
): Promise<OnTerminal> =>
  new Promise((resolve, reject) => {
    const line = command.map((word) => `'${word.replaceAll("'", String.raw`'\''`)}'`).join(' ');
    const child = spawn('script', ['--quiet', '--return', '--command', line, '/dev/null'], {
      env: { ...env, TERM: 'xterm' },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    let shown = '';
    let isAnswered = false;
    child.stdout.on('data', (piece: Buffer) => {
      shown += piece.toString('utf8');
      if (isAnswered || !asked.test(shown)) return;
      isAnswered = true;
      child.stdin.write(answer);
    });
    child.once('error', reject);
    child.once('close', (status) => resolve({ status: status ?? 1, shown }));
  });
