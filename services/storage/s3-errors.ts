import { KilnError, type ErrorCode } from '../core/errors.ts';

/** What goes wrong between Kiln and an S3 server, as one sentence each. */

/** Nothing came from the server, or went to it, for too long. */
export class Silence extends Error {
  /** How long, in milliseconds. */
  readonly after: number;

  constructor(after: number) {
    super(`nothing for ${after} ms`);
    this.name = 'Silence';
    this.after = after;
  }
}

/** A request had no answer. */
export class Unreached extends Error {
  /** Node's code of what was in the way, such as `ECONNREFUSED`; else empty. */
  readonly code: string;

  constructor(cause: unknown) {
    const { name, code } = factsOf(cause);
    super('no answer', { cause });
    this.name = name;
    this.code = code;
  }
}

/** The parts of an error of the S3 client, or of Node's network, that say what it is. */
interface Facts {
  readonly name: string;
  /** Node's, such as `ECONNREFUSED`. */
  readonly code: string;
  /** The answer's HTTP status; 0 if there was none. */
  readonly status: number;
}

const factsOf = (error: unknown): Facts => {
  const { name, code, $metadata } = (error ?? {}) as {
    readonly name?: unknown;
    readonly code?: unknown;
    readonly $metadata?: { readonly httpStatusCode?: unknown };
  };
  const status = $metadata?.httpStatusCode;
  return {
    name: typeof name === 'string' ? name : 'unknown',
    code: typeof code === 'string' ? code : '',
    status: typeof status === 'number' ? status : 0,
  };
};

/** Whether the server says that there is no such object (or, to a question without a body, no such bucket). */
export const isAbsent = (error: unknown): boolean => {
  const { name, status } = factsOf(error);
  return status === 404 && name !== 'NoSuchBucket';
};

const NETWORK = /^(ECONN|EPIPE|ENOTFOUND|EAI_|ETIMEDOUT|EHOST|ENET|ERR_STREAM_PREMATURE_CLOSE)/;
const CERTIFICATE = /CERT|ERR_TLS|UNABLE_TO|EPROTO|ERR_SSL/;

/** Whether the same request may succeed a moment later. */
export const isPassing = (error: unknown): boolean => {
  if (error instanceof Silence) return true;
  const { name, code, status } = factsOf(error);
  return (
    NETWORK.test(code) ||
    ['TimeoutError', 'RequestTimeout', 'SlowDown', ...CHANGED].includes(name) ||
    status === 429 ||
    (status >= 500 && status !== 507)
  );
};

const CHANGED = ['BadDigest', 'XAmzContentSHA256Mismatch'];
const WORDS: readonly (readonly [readonly string[], ErrorCode, string])[] = [
  [
    ['NoSuchBucket'],
    'unavailable',
    'the service’s bucket is not there; have the admin make it, or correct KILN_BLOBS',
  ],
  [
    ['InvalidAccessKeyId', 'SignatureDoesNotMatch'],
    'unavailable',
    'the S3 server does not know the service’s key; have the admin correct KILN_S3_KEY_ID and KILN_S3_SECRET_FILE',
  ],
  [
    ['RequestTimeTooSkewed'],
    'unavailable',
    'the clocks of the service and of its S3 server differ by a quarter of an hour or more; have the admin set them',
  ],
  [
    ['PermanentRedirect', 'AuthorizationHeaderMalformed', 'IllegalLocationConstraintException'],
    'unavailable',
    'the service’s bucket is in another region, or elsewhere; have the admin correct KILN_S3_REGION and KILN_S3_ENDPOINT',
  ],
  [
    ['QuotaExceeded', 'InsufficientStorage', 'XMinioStorageFull'],
    'storage-full',
    'the service’s bucket is full; try again when the admin has made room',
  ],
  [
    ['EntityTooLarge'],
    'too-large',
    'it is larger than the service’s S3 server takes at once; have the admin keep blobs in a directory, or send less',
  ],
  [CHANGED, 'unavailable', 'the bytes were changed on their way to the S3 server; send them again'],
];

const wordsFor = (error: unknown): readonly [ErrorCode, string] => {
  if (error instanceof Silence)
    return [
      'unavailable',
      `the S3 server was silent for ${error.after / 1000} seconds; try again, or have the admin look at it`,
    ];
  const { name, code, status } = factsOf(error);
  const known = WORDS.find(([names]) => names.includes(name));
  if (known !== undefined) return [known[1], known[2]];
  if (status === 301)
    return [
      'unavailable',
      'the service’s bucket is elsewhere; have the admin correct KILN_S3_REGION',
    ];
  if (status === 403)
    return [
      'unavailable',
      'the S3 server refuses the service’s key; have the admin let it list the bucket, and get, put and delete its objects',
    ];
  if (status === 507)
    return ['storage-full', 'the service’s bucket is full; try again when the admin has made room'];
  if (status === 412)
    return ['unavailable', 'the blob was stored anew while it was read; try again'];
  if (CERTIFICATE.test(code))
    return [
      'unavailable',
      'the S3 server’s certificate is not to be trusted; have the admin correct it, or name who issued it in NODE_EXTRA_CA_CERTS',
    ];
  if (isPassing(error) && status === 0)
    return [
      'unavailable',
      'the S3 server cannot be reached; try again, or have the admin look at it and at KILN_S3_ENDPOINT',
    ];
  if (isPassing(error))
    return [
      'unavailable',
      'the S3 server cannot do its work just now; try again, or have the admin look at it',
    ];
  return [
    'unavailable',
    'the S3 server gave an answer that Kiln does not understand; have the admin check that KILN_S3_ENDPOINT is one',
  ];
};

/**
 * The error that a caller gets for one of the S3 client. Its cause, for the log, is one line: the client's own error has the request in
 * it, and what was signed.
 */
export const asKilnError = (error: unknown): KilnError => {
  if (error instanceof KilnError) return error;
  const { name, code, status } = factsOf(error);
  const [kind, words] = wordsFor(error);
  const cause = new Error(
    `S3: ${[name, code, status === 0 ? '' : `HTTP ${status}`].filter((word) => word !== '').join(' ')}`,
  );
  return new KilnError(kind, words, { cause });
};
