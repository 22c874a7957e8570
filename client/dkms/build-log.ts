import type { DkmsSession } from './session.ts';
import { stepLog } from './scripts.ts';

/** A step of a build, as Kiln's log tells of it and as dkms does. */
interface Step {
  readonly label: string;
  readonly command: string;
  readonly what: string;
  output: string;
  status: number;
  readonly startedAt: number;
  endedAt: number;
}

const STEP = /^kiln: (patch|pre-build|clean|make|post-build): (.*)$/;
const FAILED = /^kiln: step '[a-z-]+' ended with exit status (\d+)$/;
const WORDS: Readonly<Record<string, string>> = {
  'pre-build': 'Running the pre_build script',
  clean: 'Cleaning build area',
  make: 'Building module(s)',
  'post-build': 'Running the post_build script',
};

/** Reads a build's log as it comes, and tells of its steps as dkms does. */
export interface BuildTeller {
  feed(text: string): void;
  /** Whether it has read nothing yet. */
  isSilent(): boolean;
  /** Ends the last step. `signed`: lines that belong behind the make step. Gives the step that failed, if one did. */
  end(
    isBuilt: boolean,
    signed: readonly string[],
  ): { readonly label: string; readonly status: number } | null;
  /** The log in the form of dkms's make.log. */
  log(): string;
}

/** `home`: the directory that dkms would build in. */
export const createBuildTeller = (
  session: Pick<DkmsSession, 'write' | 'say'>,
  home: string,
): BuildTeller => {
  const steps: Step[] = [];
  let rest = '';
  let told = 0;
  const current = (): Step | undefined => steps.at(-1);
  const finish = (): void => {
    const step = current();
    if (step !== undefined) step.endedAt = performance.now();
  };
  const isTold = ({ label }: Step): boolean => label !== 'clean';
  /** Tells of the steps before `until`, and that the one after them begins. */
  const tell = (until: number): void => {
    for (; told < until; told += 1) {
      const step = steps[told];
      if (step === undefined || !isTold(step)) continue;
      // What follows make is told at the end: dkms says in between what was signed.
      if (step.label === 'make') return;
      session.write(`${step.what}...`);
      session.say(' done.');
    }
  };
  const take = (line: string): void => {
    const [, label, command = ''] = STEP.exec(line) ?? [];
    const [, status] = FAILED.exec(line) ?? [];
    const step = current();
    if (label !== undefined) {
      finish();
      tell(steps.length);
      const now = performance.now();
      steps.push({
        label,
        command: commandOf(label, command, home),
        what: WORDS[label] ?? `Applying patch ${patchIn(command)}`,
        output: '',
        status: 0,
        startedAt: now,
        endedAt: now,
      });
    } else if (status !== undefined && step !== undefined) step.status = Number(status);
    else if (step !== undefined && !line.startsWith('kiln: ')) step.output += `${line}\n`;
  };
  return {
    feed(text) {
      const lines = `${rest}${text}`.split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) take(line);
    },
    isSilent: () => steps.length === 0,
    end(isBuilt, signed) {
      if (rest !== '') take(rest);
      finish();
      tell(steps.length);
      for (; told < steps.length; told += 1) {
        const step = steps[told];
        if (step === undefined || !isTold(step)) continue;
        session.write(`${step.what}...`);
        if (step.status !== 0) {
          session.say(`(bad exit status: ${step.status})`);
          session.say(`Failed command:\n${step.command}`);
          return step;
        }
        session.say(' done.');
        if (step.label === 'make' && isBuilt) for (const line of signed) session.say(line);
      }
      return null;
    },
    log: () =>
      steps
        .map(({ what, command, output, status, startedAt, endedAt }) =>
          stepLog(what, command, output, status, endedAt - startedAt),
        )
        .join(''),
  };
};

const patchIn = (command: string): string => /\.\/patches\/'?([^']*)'?$/.exec(command)?.[1] ?? '';

/** The command as dkms would write it into its log. */
const commandOf = (label: string, command: string, home: string): string => {
  if (label === 'patch') return `patch -p1 < ./patches/${patchIn(command)}`;
  return label.endsWith('-build') ? `cd ${home}/ && ${home}/${command}` : command;
};
