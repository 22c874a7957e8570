import { writeSync } from 'node:fs';
import { hasErrno, KilnError } from '../../services/core/errors.ts';

/** Characters that a terminal obeys instead of showing: control characters except line ends and tabs, and marks of writing direction. */
const COMMANDS = /[^\P{Cc}\n\t]|\p{Bidi_Control}/gu;

/** Text that is safe to print on a terminal, whoever wrote it: a compiler, a source, a service. */
export const plain = (text: string): string => text.replaceAll(COMMANDS, '');

const STDOUT = 1;
const PAUSE = 10;

/**
 * Writes text to standard output and returns when all of it is written: a pipe takes 64 KiB at a time, and the rest would be lost if
 * the process ended first. A reader that went away (`| head`) is no failure.
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
      // The pipe is full, and another process has made it non-blocking.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE);
    }
  }
};
