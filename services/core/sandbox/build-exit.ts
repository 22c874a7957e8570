import { errorLines } from './compiler-output.ts';
import type { BuildFailure } from '../jobs/jobs.ts';
import type { SandboxLimits } from './limits.ts';

/** What each exit status of `images/build` means; its head says the same. */
export const BUILD_EXITS = {
  built: 0,
  stepFailed: 20,
  badConf: 21,
  moduleMissing: 22,
  badRecipe: 23,
} as const;

/** How a build's container ended. */
export interface BuildEnd {
  readonly exitCode: number;
  readonly isOutOfMemory: boolean;
}

/** Explains why a build failed, from its exit status and the end of its log. */
export const explainBuildEnd = (
  end: BuildEnd,
  log: string,
  limits: SandboxLimits,
): BuildFailure => {
  const lines = errorLines(log);
  if (end.isOutOfMemory) {
    return {
      code: 'out-of-memory',
      message: `the build needs more than ${limits.memory} bytes of memory; an admin can raise the limit (KILN_BUILD_MEMORY)`,
      lines,
    };
  }
  if (log.includes('No space left on device')) {
    return {
      code: 'over-limit',
      message: `the build writes more than ${limits.disk} bytes; an admin can raise the limit (KILN_BUILD_DISK)`,
      lines,
    };
  }
  switch (end.exitCode) {
    case BUILD_EXITS.badConf:
      return {
        code: 'bad-source',
        message: 'dkms.conf cannot be evaluated; the log says why',
        lines,
      };
    case BUILD_EXITS.moduleMissing:
      return {
        code: 'bad-output',
        message:
          'the build succeeded and left no module where dkms.conf says; correct BUILT_MODULE_NAME or BUILT_MODULE_LOCATION',
        lines,
      };
    case BUILD_EXITS.badRecipe:
      return {
        code: 'builder-broken',
        message:
          'the build script did not get the whole recipe; report this as a defect, unless the source itself reads the script’s input',
        lines,
      };
    default:
      return {
        code: 'compile-failed',
        message: explainStep(log) ?? `the build ended with exit status ${end.exitCode}`,
        lines,
      };
  }
};

/** The program that a failed step lacked, or the place that it may not write to, in words; `null` if the log names neither. */
const explainStep = (log: string): string | null => {
  const program = missingProgram(log);
  if (program !== null)
    return `the build runs ${program}, which is missing from its toolchain; push the source with --needs PACKAGE (the package that has ${program}), and pin a toolchain that has it (images/make-toolchain FOLDER OUTPUT.tar PACKAGE)`;
  const write = /^(.*?[\s'‘](?<path>\/[^\s'’:]+)['’]?: Read-only file system)$/m.exec(log);
  if (write !== null)
    return `the build writes to ${write.groups?.['path'] ?? ''}, outside its own directory, as an installation does (${write[1]?.trim().slice(0, 200)}); have MAKE name a target that only builds, such as modules`;
  return null;
};

/** The messages of shells, make and env for a program that is not there. */
const NOT_FOUND: readonly RegExp[] = [
  /^\S+: (?:line )?\d+: ([\w.+-]+): (?:command )?not found$/m,
  /^make(?:\[\d+\])?: ([\w.+-]+): No such file or directory$/m,
  /^(?:\/usr\/bin\/)?env: ['‘]([\w.+-]+)['’]: No such file or directory$/m,
  /^\S+: (?:line \d+: )?\S+: \S*\/([\w.+-]+): bad interpreter: No such file or directory$/m,
];

/** The missing program that ended a step (its shell's exit status is 127 or 126 then), or `null`. */
const missingProgram = (log: string): string | null => {
  if (!/(Error|exit status) 12[67]$/m.test(log)) return null;
  for (const pattern of NOT_FOUND) {
    const found = pattern.exec(log)?.[1];
    if (found !== undefined) return found;
  }
  return null;
};
