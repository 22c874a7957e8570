import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { hexOf, isDigest, toDigest, type Digest } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import type { S3Place } from './blob-place.ts';
import type { Blobs } from './blobs.ts';
import { openObject, type OpenObject } from './object-source.ts';
import {
  clearMarks,
  putBesideRemovals,
  removeBesideStores,
  type MarkedKey,
} from './removal-marks.ts';
import { bucketOf } from './s3-bucket.ts';
import { connectS3 } from './s3-client.ts';
import { spool } from './spool.ts';
import { damaged, readVerified, readWhole, tooLarge } from './verified-bytes.ts';

/** How often a request is made that fails for a moment. */
const TRIES = 4;
/** How often in a removal, which holds the record meanwhile, and milliseconds for each. */
const REMOVAL_TRIES = 2;
const REMOVAL_PATIENCE = 10_000;

/**
 * Blobs as objects of a bucket, under the keys that they have as files below a directory (`ab/abcdef…`), behind a prefix. Written to the
 * spool first, then stored by one request that the server refuses unless the bytes have their SHA-256. What is stored anew while an old
 * blob of the same bytes is removed stays: see `removal-marks.ts`. Looks at the bucket once before anything is done; throws
 * `unavailable`, or `bad-request`, where it cannot be used.
 */
export const openS3Blobs = async (place: S3Place): Promise<Blobs> => {
  const { prefix, patience } = place;
  const client = connectS3(place);
  const bucket = bucketOf(client, place.bucket, { tries: TRIES, patience });
  const removals = bucketOf(client, place.bucket, {
    tries: REMOVAL_TRIES,
    patience: Math.min(REMOVAL_PATIENCE, patience),
  });
  const allMarks = `${prefix}leaving/`;
  const keyOf = (digest: Digest): MarkedKey => {
    const hex = hexOf(digest);
    return { key: `${prefix}${hex.slice(0, 2)}/${hex}`, marks: `${allMarks}${hex}/` };
  };
  const openBlob = async (digest: Digest): Promise<OpenObject> => {
    const object = await openObject(bucket, keyOf(digest).key);
    if (object === null) throw new KilnError('not-found', `there is no blob ${digest}`);
    return object;
  };

  await mustBeSpool(place.spool);
  for await (const _ of bucket.list(allMarks)) break;

  return {
    async find(digest) {
      const found = await bucket.find(keyOf(digest).key);
      return found === null ? null : { digest, size: found.size };
    },

    async put(bytes, { expected, limit, onHashed }) {
      const spooled = await spool(bytes, place.spool, { limit, expected });
      const { digest, size } = spooled;
      try {
        await onHashed?.(digest);
        const content = { sha256: hexOf(digest), size, pieces: spooled.pieces };
        const stored = await putBesideRemovals(bucket, keyOf(digest), content);
        if (stored.size !== size) throw damaged(digest, 'the S3 server has not stored all of it');
        return { digest, size };
      } finally {
        await spooled.close();
      }
    },

    open: async (digest, range) => readVerified(await openBlob(digest), digest, range),

    async read(digest, limit) {
      const object = await openBlob(digest);
      if (object.size > limit) {
        await object.close();
        throw tooLarge(digest, limit);
      }
      return readWhole(object, digest, limit);
    },

    async check(digest) {
      let size = 0;
      for await (const piece of await readVerified(await openBlob(digest), digest))
        size += (piece as Buffer).length;
      return { digest, size };
    },

    remove: (digest) => bucket.remove(keyOf(digest).key),

    removeOld: (digest, arrivedBefore) =>
      removeBesideStores(removals, keyOf(digest), arrivedBefore),

    async *list() {
      for await (const { key, size, storedAt } of bucket.list(prefix)) {
        const digest = toDigest(key.slice(-64));
        if (isDigest(digest) && keyOf(digest).key === key)
          yield { digest, size, arrivedAt: storedAt };
      }
    },

    clearArrivals: () => clearMarks(bucket, allMarks),
  };
};

const mustBeSpool = async (directory: string): Promise<void> => {
  try {
    await access(`${directory}/.`, constants.W_OK | constants.X_OK);
  } catch (cause) {
    throw new KilnError(
      'bad-request',
      `setting KILN_SPOOL: ${directory} is not a directory that can be written`,
      { cause },
    );
  }
};
