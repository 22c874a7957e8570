import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from '@jest/globals';
import { blobsBelow } from '../../services/api/config.ts';
import type { BlobPlace } from '../../services/storage/blob-place.ts';
import { freshDirectory } from '../machine/make-source.ts';
import { refusal } from '../unit/samples.ts';

describe('settings of where blobs are', () => {
  let key: Record<string, string>;
  let empty: string;
  beforeAll(async () => {
    const directory = await freshDirectory('secrets');
    const secret = join(directory, 'secret');
    empty = join(directory, 'empty');
    await writeFile(secret, 'a secret\n');
    await writeFile(empty, '\n');
    key = { KILN_S3_KEY_ID: 'key', KILN_S3_SECRET_FILE: secret };
  });
  const placeOf = (settings: Record<string, string>): BlobPlace =>
    blobsBelow('/srv/kiln', { KILN_UNRELATED: 'something', ...settings });

  it('name a directory, or are for the one below the data', () => {
    expect(placeOf({ KILN_BLOBS: '/blobs' })).toEqual({ kind: 'directory', directory: '/blobs' });
    expect(placeOf({})).toEqual({ kind: 'directory', directory: '/srv/kiln/blobs' });
  });

  it('name a bucket at AWS or elsewhere, and what its keys begin with', () => {
    const bucket = { kind: 's3', bucket: 'my.bucket', keyId: 'key', secret: 'a secret' };
    expect(placeOf({ KILN_BLOBS: 's3://my.bucket', ...key })).toMatchObject({
      ...bucket,
      prefix: '',
      endpoint: null,
      region: 'us-east-1',
      spool: tmpdir(),
    });
    expect(
      placeOf({
        KILN_BLOBS: 's3://my.bucket/kiln/blobs/',
        KILN_S3_ENDPOINT: 'https://s3.example:9000',
        KILN_S3_REGION: 'eu-central-1',
        KILN_SPOOL: '/var/spool/kiln',
        ...key,
      }),
    ).toMatchObject({
      ...bucket,
      prefix: 'kiln/blobs/',
      endpoint: 'https://s3.example:9000',
      region: 'eu-central-1',
      spool: '/var/spool/kiln',
    });
  });

  it.each([
    ['s3://', /^setting KILN_BLOBS: is no s3:\/\/BUCKET/],
    ['s3://UPPER/prefix', /^setting KILN_BLOBS: is no s3:\/\/BUCKET/],
    ['s3://bucket/a prefix', /^setting KILN_BLOBS: is no s3:\/\/BUCKET/],
    ['s3:bucket', /^setting KILN_BLOBS: is no s3:\/\/BUCKET/],
  ])('are refused where they name no bucket: %s', (place, words) => {
    expect(() => placeOf({ KILN_BLOBS: place, ...key })).toThrow(refusal('bad-request', words));
  });

  it('are refused where a bucket’s key is not told, or told in vain', () => {
    const at = { KILN_BLOBS: 's3://bucket' };
    const { KILN_S3_KEY_ID: id = '', KILN_S3_SECRET_FILE: file = '' } = key;
    for (const [settings, words] of [
      [{ ...at, KILN_S3_SECRET_FILE: file }, /^setting KILN_S3_KEY_ID: must be set/],
      [{ ...at, KILN_S3_KEY_ID: id }, /^setting KILN_S3_SECRET_FILE: must be set/],
      [{ ...at, ...key, KILN_S3_SECRET_FILE: '/none' }, /SECRET_FILE: \/none cannot be read$/],
      [{ ...at, ...key, KILN_S3_SECRET_FILE: empty }, /SECRET_FILE: \S+ is empty$/],
      [{ ...at, ...key, KILN_S3_ENDPOINT: 'server:9000' }, /KILN_S3_ENDPOINT: must be the http/],
      [{ KILN_BLOBS: '/blobs', ...key }, /KILN_S3_KEY_ID: is for blobs in a bucket/],
      [{ KILN_SPOOL: '/spool' }, /KILN_SPOOL: is for blobs in a bucket/],
    ] as const)
      expect(() => placeOf(settings)).toThrow(refusal('bad-request', words));
  });
});
