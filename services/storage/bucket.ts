import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  type ListObjectsV2CommandOutput,
} from '@aws-sdk/client-s3';
import type { S3Place } from './blob-place.ts';
import { asKilnError, isAbsent, isPassing, Silence, Unreached } from './s3-errors.ts';

/** What is known of an object. */
export interface ObjectInfo {
  readonly key: string;
  readonly size: number;
  /** When it was stored, by the server's clock: milliseconds since 1970, often in whole seconds. */
  readonly storedAt: number;
}

/** What an object is to hold. */
export interface ObjectContent {
  /** 64 hex digits; the server refuses other bytes. */
  readonly sha256: string;
  readonly size: number;
  /** The bytes from their first on, as often as it is called. */
  pieces(): AsyncIterable<Buffer>;
}

/** An object's bytes as the server sends them. */
export interface ObjectBytes {
  /** All of the object's bytes, as the server says. */
  readonly size: number;
  /** By which the same bytes are known again; empty if the server has none. */
  readonly etag: string;
  /** The next of them; `null` at the end. A reader may take its time between two calls. */
  next(): Promise<Buffer | null>;
  close(): void;
}

/**
 * Objects in a bucket. All of it throws `KilnError`, mostly `unavailable`, whose sentence says what is wrong: with the server, the way
 * to it, or the settings. What fails for a moment is tried again, so that an act may be done twice unless it is said otherwise.
 */
export interface Bucket {
  /** Stores an object, whole or not at all. */
  put(key: string, content: ObjectContent): Promise<void>;
  /** `null` if there is none. A bucket that is not there is not told from it. */
  find(key: string): Promise<ObjectInfo | null>;
  /** An object's bytes from one of them on; `null` if there is no object. Throws where `etag` is given and the object has another. */
  get(key: string, from?: number, etag?: string): Promise<ObjectBytes | null>;
  /** Removes an object; one that is not there is no error. */
  remove(key: string): Promise<void>;
  /** The same by one request alone. Where it throws, nobody knows whether the object is gone, or still will be. */
  removeOnce(key: string): Promise<void>;
  /** All objects whose keys begin so, without those of which the server says nothing that makes sense. */
  list(prefix: string): AsyncIterable<ObjectInfo>;
}

/** How requests are made. */
export interface Asking {
  /** How often one is made that fails for a moment. */
  readonly tries: number;
  /** Milliseconds of silence after which it has failed. */
  readonly patience: number;
}

/** Milliseconds between two tries. */
const PAUSES = [200, 1000, 3000];
const CONNECT = 5_000;

/** A connection to an S3 server, for `bucketOf`. */
export const connectS3 = ({ endpoint, region, keyId, secret, patience }: S3Place): S3Client => {
  const client = new S3Client({
    region,
    ...(endpoint === null ? {} : { endpoint, forcePathStyle: true }),
    credentials: { accessKeyId: keyId, secretAccessKey: secret },
    // It would write to the console what its errors say as well.
    logger: { trace() {}, debug() {}, info() {}, warn() {}, error() {} },
    // Tries are counted here: the client would send a removal again by itself.
    maxAttempts: 1,
    // The checksums that it would add are unknown to many servers; the bytes' SHA-256 is signed with the request instead.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: {
      connectionTimeout: Math.min(CONNECT, patience),
      // Silence is measured here: a reader that takes its time is none of the server's.
      socketTimeout: 0,
      httpAgent: { maxSockets: Infinity },
      httpsAgent: { maxSockets: Infinity },
    },
  });
  // Next to the network, where its errors are as Node made them: the client knows those of its own realm alone, and wraps others.
  client.middlewareStack.add(
    (next) => async (args) => {
      try {
        return await next(args);
      } catch (error) {
        throw new Unreached(error);
      }
    },
    { step: 'deserialize', priority: 'low', name: 'unreached' },
  );
  return client;
};

/** The bucket of that name at a server. */
export const bucketOf = (client: S3Client, Bucket: string, { tries, patience }: Asking): Bucket => {
  /** One request, which ends after too long a silence. `heard` says that there was none. */
  const once = async <T>(
    request: (ending: { readonly abortSignal: AbortSignal }, heard: () => void) => Promise<T>,
  ): Promise<T> => {
    const ending = new AbortController();
    const timer = setTimeout(() => ending.abort(), patience);
    try {
      return await request({ abortSignal: ending.signal }, () => void timer.refresh());
    } catch (error) {
      throw ending.signal.aborted ? new Silence(patience) : error;
    } finally {
      clearTimeout(timer);
    }
  };

  const ask: typeof once = async (request) => {
    for (let tried = 1; ; tried += 1) {
      try {
        return await once(request);
      } catch (error) {
        if (tried >= tries || !isPassing(error)) throw asKilnError(error);
        await sleep(PAUSES[tried - 1] ?? PAUSES.at(-1));
      }
    }
  };

  const orAbsent = <T>(request: () => Promise<T>): Promise<T | null> =>
    request().catch((error: unknown) => {
      if (isAbsent(error)) return null;
      throw error;
    });

  const removeWith = async (
    Key: string,
    ending: { readonly abortSignal: AbortSignal },
  ): Promise<void> => {
    await client.send(new DeleteObjectCommand({ Bucket, Key }), ending);
  };

  return {
    put: (Key, { sha256, size, pieces }) =>
      ask(async (ending, heard) => {
        const failing = new AbortController();
        const body = Readable.from(heardOf(pieces(), heard), { objectMode: false });
        body.once('error', (error) => failing.abort(error));
        const command = new PutObjectCommand({ Bucket, Key, Body: body, ContentLength: size });
        signWith(command, sha256);
        const abortSignal = AbortSignal.any([ending.abortSignal, failing.signal]);
        try {
          await client.send(command, { abortSignal });
        } catch (error) {
          throw failing.signal.aborted ? failing.signal.reason : error;
        } finally {
          body.destroy();
        }
      }),

    find: (Key) =>
      ask((ending) =>
        orAbsent(async () => {
          const found = await client.send(new HeadObjectCommand({ Bucket, Key }), ending);
          return infoOf(Key, found.ContentLength, found.LastModified) ?? misunderstood();
        }),
      ),

    get: (Key, from = 0, etag = '') =>
      ask((ending) =>
        orAbsent(async () => {
          const asked = {
            ...(from === 0 ? {} : { Range: `bytes=${from}-` }),
            ...(etag === '' ? {} : { IfMatch: etag }),
          };
          const got = await client.send(new GetObjectCommand({ Bucket, Key, ...asked }), ending);
          const { Body, ContentLength: length, ETag, $metadata } = got;
          const isAsAsked = $metadata.httpStatusCode === (from === 0 ? 200 : 206);
          if (!(Body instanceof Readable)) return misunderstood();
          if (!isAsAsked || !isSize(length)) {
            Body.destroy();
            return misunderstood();
          }
          return { size: from + length, etag: ETag ?? '', ...readingOf(Body, patience) };
        }),
      ),

    remove: (Key) => ask((ending) => removeWith(Key, ending)),

    removeOnce: (Key) =>
      once((ending) => removeWith(Key, ending)).catch((error: unknown) => {
        throw asKilnError(error);
      }),

    async *list(Prefix) {
      let token: string | undefined;
      do {
        // Keys are written as in a URL: XML has no way to write some of them.
        const page = { Bucket, Prefix, EncodingType: 'url' as const, ContinuationToken: token };
        const got: ListObjectsV2CommandOutput = await ask((ending) =>
          client.send(new ListObjectsV2Command(page), ending),
        );
        for (const { Key, Size, LastModified } of got.Contents ?? []) {
          const key = decoded(Key);
          const info = key === null ? null : infoOf(key, Size, LastModified);
          if (info !== null && info.key.startsWith(Prefix)) yield info;
        }
        const next = got.IsTruncated === true ? (got.NextContinuationToken ?? '') : undefined;
        if (next === '' || (next !== undefined && next === token)) misunderstood();
        token = next;
      } while (token !== undefined);
    },
  };
};

const misunderstood = (): never => {
  throw asKilnError(new Error('not understood'));
};

async function* heardOf(pieces: AsyncIterable<Buffer>, heard: () => void): AsyncGenerator<Buffer> {
  for await (const piece of pieces) {
    heard();
    yield piece;
  }
}

/** Has the request signed for bytes of this SHA-256: the server refuses others (`XAmzContentSHA256Mismatch`). */
const signWith = (command: PutObjectCommand, sha256: string): void => {
  command.middlewareStack.add(
    (next) => (args) => {
      const { request } = args as {
        readonly request: { readonly headers: Record<string, string> };
      };
      request.headers['x-amz-content-sha256'] = sha256;
      return next(args);
    },
    { step: 'build', name: 'contentSha256' },
  );
};

const isSize = (size: number | undefined): size is number =>
  size !== undefined && Number.isSafeInteger(size) && size >= 0;

const infoOf = (
  key: string,
  size: number | undefined,
  time: Date | undefined,
): ObjectInfo | null => {
  const storedAt = time?.getTime() ?? NaN;
  return isSize(size) && Number.isFinite(storedAt) ? { key, size, storedAt } : null;
};

const decoded = (key = ''): string | null => {
  try {
    return decodeURIComponent(key);
  } catch {
    return null;
  }
};

const readingOf = (body: Readable, patience: number): Pick<ObjectBytes, 'next' | 'close'> => {
  const chunks: AsyncIterator<Buffer> = body[Symbol.asyncIterator]();
  // The one who reads hears of it; nobody does where the reading was given up.
  body.on('error', () => {});
  return {
    async next() {
      const timer = setTimeout(() => body.destroy(new Silence(patience)), patience);
      try {
        const { done, value } = await chunks.next();
        return done === true ? null : value;
      } finally {
        clearTimeout(timer);
      }
    },
    close: () => void body.destroy(),
  };
};
