import { KilnError, type ErrorCode } from '../../services/core/errors.ts';

/** The reason why a call got no answer from Kiln, and whether another try may help. */
export interface Fault {
  /** In few words, for a line of progress: `connection refused`. */
  readonly reason: string;
  /** Whether it may pass by itself: a refused connection may, a certificate that is not trusted does not. */
  readonly mayPass: boolean;
  /** Whether the service may have done what was asked, although no answer came. */
  readonly mayBeDone: boolean;
  /** Seconds that the other side asks to wait for, `null` where it does not say. */
  readonly wait: number | null;
}

/** The failure of a call that got no answer from Kiln: `unreachable`, or `unavailable` where the service says that it is not ready. */
export class CallFailed extends KilnError {
  readonly fault: Fault;

  constructor(code: ErrorCode, message: string, fault: Fault, options?: { cause?: unknown }) {
    super(code, message, options);
    this.name = 'CallFailed';
    this.fault = fault;
  }
}

const NO_HOST = { reason: 'no such host', advice: 'is its name right, and does DNS answer?' };
const NO_WAY = { reason: 'no way to it', advice: 'is this host’s network up?' };
const BROKEN = { reason: 'connection broken', advice: 'try again' };

/** Causes that may pass by themselves, by Node's code. */
const PASSING: Readonly<Record<string, { readonly reason: string; readonly advice: string }>> = {
  // Bun gives this code also where there is no route to the host.
  ECONNREFUSED: {
    reason: 'connection refused',
    advice: 'is it running on that port, and is this host’s network up?',
  },
  ENOTFOUND: NO_HOST,
  EAI_AGAIN: NO_HOST,
  EAI_FAIL: NO_HOST,
  ETIMEDOUT: { reason: 'timed out', advice: 'is there a way to it through network and firewall?' },
  EHOSTUNREACH: NO_WAY,
  ENETUNREACH: NO_WAY,
  ENETDOWN: NO_WAY,
  ECONNRESET: BROKEN,
  ECONNABORTED: BROKEN,
  EPIPE: BROKEN,
};

/** Causes that last until somebody acts. */
const LASTING: readonly {
  readonly codes: RegExp;
  readonly reason: string;
  readonly advice: string;
}[] = [
  {
    codes: /^CERT_(HAS_EXPIRED|NOT_YET_VALID)$/,
    reason: 'certificate out of date',
    advice: 'renew it, or put this host’s clock right',
  },
  {
    codes: /^ERR_TLS_CERT_ALTNAME_INVALID$|^HOSTNAME_MISMATCH$/,
    reason: 'certificate for another name',
    advice: 'call the service by the name in its certificate',
  },
  {
    codes: /SELF_SIGNED|^UNABLE_TO_(GET_ISSUER|VERIFY)|^CERT_|^INVALID_CA$/,
    reason: 'certificate not trusted',
    advice: 'give its CA with ca = FILE in /etc/kiln/config, or --ca FILE',
  },
  {
    codes: /^HPE_/,
    reason: 'no HTTP understood by both',
    advice: 'is that port one for http, and not for https?',
  },
  {
    codes: /^ERR_SSL_|^EPROTO$/,
    reason: 'no TLS understood by both',
    advice: 'is that port one for https?',
  },
];

/**
 * The failure of a connection to `where` (an address, without credentials). `mayBeDone` tells whether the request may have
 * gone out by then.
 */
export const connectionFailed = (cause: unknown, where: string, mayBeDone: boolean): CallFailed => {
  if (cause instanceof CallFailed) return cause;
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  const lasting = LASTING.find(({ codes }) => codes.test(code));
  const { reason, advice } = lasting ?? PASSING[code] ?? BROKEN;
  return new CallFailed(
    'unreachable',
    `${where} does not answer: ${reason}; ${advice}`,
    { reason, mayPass: lasting === undefined, mayBeDone, wait: null },
    { cause },
  );
};

/** Whether a connection was made and then broke. */
export const isBroken = (error: unknown): boolean =>
  error instanceof CallFailed && error.fault.reason === BROKEN.reason;

/** The failure of a connection on which nothing was received within its time. */
export const timedOut = (): Error =>
  Object.assign(new Error('nothing came for too long'), { code: 'ETIMEDOUT' });

const PASSING_STATUS: readonly number[] = [408, 429, 502, 503, 504];

/** The fault in an answer's status, or `null` if trying again would not help. `retryAfter` is the answer's header. */
export const statusFault = (status: number, retryAfter: string | undefined): Fault | null => {
  if (!PASSING_STATUS.includes(status)) return null;
  const seconds = /^\d{1,9}$/.test(retryAfter ?? '') ? Number(retryAfter) : null;
  return { reason: `status ${status}`, mayPass: true, mayBeDone: status !== 429, wait: seconds };
};
