import type { ErrorCode } from '../../services/core/errors.ts';

/** A `dkms` command that ends before its work is done: with the exit status and the words of dkms(8)'s own. */
export class DkmsEnd extends Error {
  readonly status: number;
  /** Lines for standard error; none where they were printed already. */
  readonly lines: readonly string[];
  readonly kind: 'Error!' | 'Warning:';
  /** What it means where Kiln itself asked: dkms has one status for several things. */
  readonly code: ErrorCode;

  constructor(
    status: number,
    lines: readonly string[],
    kind: 'Error!' | 'Warning:' = 'Error!',
    code: ErrorCode = 'build-failed',
  ) {
    super(lines.join(' '));
    this.code = code;
    this.name = 'DkmsEnd';
    this.status = status;
    this.lines = lines;
    this.kind = kind;
  }
}

/** Exit statuses of dkms (source: the table at the top of dkms 3.2.2) that are used in more than one place. */
export const EXIT = {
  usage: 1,
  /** The source, or the headers' package, is not for this kernel by its own word (`BUILD_EXCLUSIVE_*`). */
  excluded: 77,
  /** No headers of the kernel can be had. */
  noHeaders: 21,
  badConf: 8,
  buildFailed: 10,
} as const;
