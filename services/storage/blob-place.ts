import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { KilnError } from '../core/errors.ts';

/** Blobs below a directory. */
export interface DirectoryPlace {
  readonly kind: 'directory';
  readonly directory: string;
}

/** Blobs in a bucket of an S3 server. */
export interface S3Place {
  readonly kind: 's3';
  readonly bucket: string;
  /** What their keys begin with: nothing, or it ends with a slash. */
  readonly prefix: string;
  /** The server's URL; `null` is AWS's own of the region. */
  readonly endpoint: string | null;
  readonly region: string;
  readonly keyId: string;
  readonly secret: string;
  /** The directory where bytes wait on their way to the bucket. */
  readonly spool: string;
  /** Milliseconds of silence after which a connection is given up. */
  readonly patience: number;
}

/** Where blobs are kept. */
export type BlobPlace = DirectoryPlace | S3Place;

/** The settings that are for a bucket alone. */
export const OF_A_BUCKET = [
  'KILN_S3_ENDPOINT',
  'KILN_S3_REGION',
  'KILN_S3_KEY_ID',
  'KILN_S3_SECRET_FILE',
  'KILN_SPOOL',
] as const;
type OfABucket = (typeof OF_A_BUCKET)[number];

/** The settings that say where blobs are, as they were read. */
export type BlobSettings = { readonly KILN_BLOBS: string } & {
  readonly [name in OfABucket]?: string | undefined;
};

/** AWS's first region, which servers of other makers take for theirs. */
export const DEFAULT_REGION = 'us-east-1';
const PATIENCE = 30_000;

/** A bucket by its name (of three to 63 letters), and behind it a prefix without anything that a URL writes otherwise. */
const S3_URL = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/([A-Za-z0-9._/-]*))?$/;

/** Where the settings say that blobs are. Throws `bad-request` naming the setting that is wrong, missing or without effect. */
export const blobPlace = (settings: BlobSettings): BlobPlace => {
  const place = settings.KILN_BLOBS;
  if (!place.startsWith('s3:')) {
    const useless = OF_A_BUCKET.find((name) => settings[name] !== undefined);
    if (useless !== undefined)
      throw wrong(useless, 'is for blobs in a bucket, and KILN_BLOBS is a directory; unset it');
    return { kind: 'directory', directory: place };
  }
  const match = S3_URL.exec(place);
  if (match?.[1] === undefined)
    throw wrong('KILN_BLOBS', 'is no s3://BUCKET or s3://BUCKET/PREFIX of letters, digits and ._-');
  const prefix = (match[2] ?? '').replace(/\/+$/, '');
  return {
    kind: 's3',
    bucket: match[1],
    prefix: prefix === '' ? '' : `${prefix}/`,
    endpoint: settings.KILN_S3_ENDPOINT ?? null,
    region: settings.KILN_S3_REGION ?? DEFAULT_REGION,
    keyId: given(settings, 'KILN_S3_KEY_ID'),
    secret: readSecret(given(settings, 'KILN_S3_SECRET_FILE')),
    spool: settings.KILN_SPOOL ?? tmpdir(),
    patience: PATIENCE,
  };
};

const wrong = (name: string, words: string): KilnError =>
  new KilnError('bad-request', `setting ${name}: ${words}`);

const given = (settings: BlobSettings, name: OfABucket): string => {
  const value = settings[name];
  if (value === undefined) throw wrong(name, 'must be set where KILN_BLOBS is a bucket');
  return value;
};

const readSecret = (file: string): string => {
  let secret: string;
  try {
    secret = readFileSync(file, 'utf8').trim();
  } catch (cause) {
    throw new KilnError('bad-request', `setting KILN_S3_SECRET_FILE: ${file} cannot be read`, {
      cause,
    });
  }
  if (secret === '') throw wrong('KILN_S3_SECRET_FILE', `${file} is empty`);
  return secret;
};
