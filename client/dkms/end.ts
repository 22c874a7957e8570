/** A `dkms` command that ends before its work is done: with the exit status and the words of dkms(8)'s own. */
export class DkmsEnd extends Error {
  readonly status: number;
  /** Lines for standard error; none where they were printed already. */
  readonly lines: readonly string[];
  readonly kind: 'Error!' | 'Warning:';

  constructor(status: number, lines: readonly string[], kind: 'Error!' | 'Warning:' = 'Error!') {
    super(lines.join(' '));
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
