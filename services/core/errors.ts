/**
 * Every way Kiln refuses or fails, once: what it means, the HTTP status the service answers with,
 * and the exit status the client ends with.
 */
const ERRORS = {
  'bad-request': { status: 400, exit: 2, meaning: 'The request is not understood' },
  unauthenticated: { status: 401, exit: 4, meaning: 'No valid token was given' },
  forbidden: { status: 403, exit: 4, meaning: 'The token’s role may not do this' },
  'not-found': { status: 404, exit: 3, meaning: 'There is no such thing here' },
  conflict: { status: 409, exit: 2, meaning: 'It contradicts what is already here' },
  'too-many': { status: 429, exit: 5, meaning: 'Too much was asked for at once' },
  'too-slow': { status: 408, exit: 5, meaning: 'The request came too slowly' },
  'too-large': { status: 413, exit: 2, meaning: 'It is over a limit of this service' },
  'digest-mismatch': { status: 422, exit: 2, meaning: 'The bytes are not those announced' },
  'bad-tarball': { status: 422, exit: 2, meaning: 'The tarball or package is not acceptable' },
  'bad-source': { status: 422, exit: 2, meaning: 'The tree is not a module’s source' },
  'bad-kernel': { status: 422, exit: 2, meaning: 'The tree is not a kernel’s headers' },
  'no-toolchain': { status: 422, exit: 2, meaning: 'No toolchain here fits the kernel' },
  'storage-full': { status: 507, exit: 5, meaning: 'The service has no room to store it' },
  unavailable: { status: 503, exit: 5, meaning: 'The service is not ready' },
  unreachable: { status: 502, exit: 5, meaning: 'The service does not answer' },
  'build-failed': { status: 500, exit: 1, meaning: 'The module could not be built' },
  excluded: {
    status: 409,
    exit: 77,
    meaning: 'The source says that it is not for this kernel',
  },
  'in-tree': {
    status: 409,
    exit: 77,
    meaning: 'The kernel’s own module is the same or newer',
  },
  'build-cancelled': { status: 409, exit: 130, meaning: 'The build was cancelled' },
  withdrawn: { status: 410, exit: 6, meaning: 'It was withdrawn: hosts are not given it any more' },
  unverified: { status: 422, exit: 6, meaning: 'The module did not pass verification' },
  'install-failed': { status: 500, exit: 7, meaning: 'The host could not be changed' },
  'not-loaded': {
    status: 500,
    exit: 8,
    meaning: 'The module is installed, and is not in the running kernel',
  },
  internal: { status: 500, exit: 70, meaning: 'A defect in Kiln' },
} as const;

/** The closed set of error codes, the same in the API, the client and the logs. */
export type ErrorCode = keyof typeof ERRORS;

/** The one error class. `message` is a sentence for the person who gets it: no secret, path of the server or stack. */
export class KilnError extends Error {
  readonly code: ErrorCode;
  /** Seconds after which another try may succeed, where that is known. */
  readonly retryAfter: number | null;

  constructor(
    code: ErrorCode,
    message: string,
    options?: { cause?: unknown; retryAfter?: number },
  ) {
    super(message, options);
    this.name = 'KilnError';
    this.code = code;
    this.retryAfter = options?.retryAfter ?? null;
  }
}

/** The HTTP status for a code. */
export const httpStatus = (code: ErrorCode): number => ERRORS[code].status;

/** The client's exit status for a code. */
export const exitStatus = (code: ErrorCode): number => ERRORS[code].exit;

/** One line saying what a code means, the `title` of a problem document. */
export const errorMeaning = (code: ErrorCode): string => ERRORS[code].meaning;

/** Tells whether a string (from the wire) is one of our codes. */
export const isErrorCode = (text: string): text is ErrorCode => Object.hasOwn(ERRORS, text);

/** Every code with its statuses, for `kiln --help` and the README. */
export const errorTable = (): readonly {
  code: string;
  status: number;
  exit: number;
  meaning: string;
}[] => Object.entries(ERRORS).map(([code, entry]) => ({ code, ...entry }));

/** Tells whether an unknown failure, of whatever realm, carries this Node error code (`ENOSPC`, `ENOENT`). */
export const hasErrno = (error: unknown, errno: string): boolean =>
  Object.prototype.toString.call(error) === '[object Error]' &&
  (error as { readonly code?: unknown }).code === errno;
