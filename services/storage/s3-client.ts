import { S3Client, type PutObjectCommand } from '@aws-sdk/client-s3';
import type { S3Place } from './blob-place.ts';
import { Unreached } from './s3-errors.ts';

/** Milliseconds in which a connection is made, at most. */
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

/** Has the request signed for bytes of this SHA-256: the server refuses others (`XAmzContentSHA256Mismatch`). */
export const signWith = (command: PutObjectCommand, sha256: string): void => {
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
