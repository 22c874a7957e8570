import { randomUUID } from 'node:crypto';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { hexOf, type Digest } from '../../services/core/digest.ts';
import type { S3Place } from '../../services/storage/blob-place.ts';
import { openBlobDirectory, type Blobs } from '../../services/storage/blobs.ts';
import { openBlobs } from '../../services/storage/open-blobs.ts';
import { freshDirectory } from './make-source.ts';
import { startS3Server, type S3Server } from './s3-server.ts';

/** Blobs, with nothing in them at first, and what somebody else than Kiln can do to them. */
export interface BlobStore {
  readonly blobs: Blobs;
  /** Puts bytes at a name (a digest's is its place). */
  lay(name: string, bytes: Buffer): Promise<void>;
  /** Takes a blob away. */
  take(blob: Digest): Promise<void>;
  /** The names of all that is there. */
  names(): Promise<readonly string[]>;
  /** The files that wait to be stored. */
  waiting(): Promise<readonly string[]>;
}

/** Puts bytes; their digest. */
export const putBytes = async (blobs: Blobs, bytes: Buffer | string): Promise<Digest> => {
  const stream = Readable.from([Buffer.from(bytes)], { objectMode: false });
  return (await blobs.put(stream, { limit: 1024 ** 3 })).digest;
};

/** How a name in a test stands for a place: a digest's own, or the name itself. */
const nameOf = (name: string): string => {
  if (!name.startsWith('sha256:')) return name;
  const hex = hexOf(name as Digest);
  return `${hex.slice(0, 2)}/${hex}`;
};

const directoryStore = async (): Promise<BlobStore> => {
  const directory = await freshDirectory('blobs');
  return {
    blobs: await openBlobDirectory(directory),
    async lay(name, bytes) {
      const place = join(directory, nameOf(name));
      await mkdir(dirname(place), { recursive: true });
      await writeFile(place, bytes);
    },
    take: (blob) => rm(join(directory, nameOf(blob))),
    async names() {
      const files = await readdir(directory, { recursive: true, withFileTypes: true });
      return files
        .filter((file) => file.isFile())
        .map((file) => join(file.parentPath, file.name).slice(directory.length + 1));
    },
    waiting: () => readdir(join(directory, 'arriving')),
  };
};

/** A bucket of its own at a server, as settings say it. */
export const freshBucket = async (server: S3Server): Promise<S3Place> => ({
  kind: 's3',
  bucket: await server.newBucket(),
  prefix: 'kiln/blobs/',
  endpoint: server.endpoint,
  region: 'us-east-1',
  keyId: server.keyId,
  secret: server.secret,
  spool: await freshDirectory('spool'),
  patience: 10_000,
});

/** Blobs in a bucket. */
export const bucketStore = async (
  server: S3Server,
  settings: Partial<S3Place> = {},
): Promise<BlobStore & { readonly place: S3Place }> => {
  const place = { ...(await freshBucket(server)), ...settings };
  const at = (name: string): string => `${place.bucket}/${place.prefix}${name}`;
  const must = async (status: string, path: string, ...args: string[]): Promise<string> => {
    const said = await server.curl(path, ...args);
    if (!said.endsWith(`\n${status}`)) throw new Error(`${path}: ${said}`);
    return said;
  };
  return {
    place,
    blobs: await openBlobs(place),
    async lay(name, bytes) {
      const file = join(await freshDirectory('laid'), randomUUID());
      await writeFile(file, bytes);
      await must('200', at(nameOf(name)), '--upload-file', file);
    },
    take: async (blob) => void (await must('204', at(nameOf(blob)), '--request', 'DELETE')),
    async names() {
      const list = await must('200', place.bucket);
      return [...list.matchAll(/<Key>([^<]*)<\/Key>/g)].map(
        ([, key]) => key?.slice(place.prefix.length) ?? '',
      );
    },
    waiting: () => readdir(place.spool),
  };
};

/** Both ways to keep blobs, for tests of what both promise; the S3 server starts with the first bucket. `stop` ends it. */
export const blobStores = (): {
  readonly each: readonly (readonly [string, () => Promise<BlobStore>])[];
  stop(): Promise<void>;
} => {
  let server: Promise<S3Server> | null = null;
  return {
    each: [
      ['a directory', directoryStore],
      ['a bucket', async () => bucketStore(await (server ??= startS3Server()))],
    ],
    stop: async () => (await server)?.stop(),
  };
};

/** The settings of roles whose blobs are in a bucket. */
export const bucketSettings = async (
  data: string,
  { endpoint, keyId, secret }: Pick<S3Server, 'endpoint' | 'keyId' | 'secret'>,
  { bucket, prefix, spool }: Pick<S3Place, 'bucket' | 'prefix' | 'spool'>,
): Promise<NodeJS.ProcessEnv> => {
  const file = join(data, 's3.secret');
  await writeFile(file, `${secret}\n`, { mode: 0o600 });
  return {
    KILN_BLOBS: `s3://${bucket}/${prefix}`,
    KILN_S3_ENDPOINT: endpoint,
    KILN_S3_KEY_ID: keyId,
    KILN_S3_SECRET_FILE: file,
    KILN_SPOOL: spool,
  };
};
