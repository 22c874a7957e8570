import { writeSync } from 'node:fs';
import { hasErrno, KilnError } from '../../services/core/errors.ts';

/** What a terminal would obey instead of showing it: control characters but line ends and tabs, and what turns the writing direction. */
const COMMANDS = /[^\P{Cc}\n\t]|\p{Bidi_Control}/gu;

/** Text as people see it, whoever wrote it: a compiler, a source, a service. */
export const plain = (text: string): string => text.replaceAll(COMMANDS, '');

const STDOUT = 1;
const PAUSE = 10;

/**
 * Writes text to standard output and returns when all of it is written: a pipe takes 64 KiB at a time, and a process that
 * ends before its reader took the rest would lose it. A reader that went away (`| head`) has what it wanted.
 * Throws `install-failed` if the output cannot be written.
 */
export const writeOutput = (text: string): void => {
  const bytes = Buffer.from(text);
  let written = 0;
  while (written < bytes.length) {
    try {
      written += writeSync(STDOUT, bytes, written);
    } catch (cause) {
      if (hasErrno(cause, 'EPIPE')) return;
      if (!hasErrno(cause, 'EAGAIN')) {
        throw new KilnError('install-failed', 'the output cannot be written; is the disk full?', {
          cause,
        });
      }
      // Somebody made the pipe non-blocking, and it is full.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE);
    }
  }
};
