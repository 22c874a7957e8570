import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type ListObjectsV2CommandOutput,
  type S3Client,
} from '@aws-sdk/client-s3';
import type { Bucket as OpenBucket, ObjectBytes, ObjectInfo } from './bucket.ts';
import { signWith } from './s3-client.ts';
import { asKilnError, isAbsent, isPassing, Silence } from './s3-errors.ts';

/** How requests are made. */
export interface Asking {
  /** How often one is made that fails for a moment. */
  readonly tries: number;
  /** Milliseconds of silence after which it has failed. */
  readonly patience: number;
}

/** Milliseconds between two tries. */
const PAUSES = [200, 1000, 3000];

/** The bucket of that name at a server. */
export const bucketOf = (
  client: S3Client,
  Bucket: string,
  { tries, patience }: Asking,
): OpenBucket => {
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
