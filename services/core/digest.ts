import { createHash } from 'node:crypto';
import { z } from 'zod';

/** A SHA-256 written as `sha256:` and 64 lower-case hex digits, the way OCI and Docker write it. */
export type Digest = `sha256:${string}`;

const PATTERN = /^sha256:[0-9a-f]{64}$/;

/** Tells whether a string is a well-formed digest. */
export const isDigest = (text: string): text is Digest => PATTERN.test(text);

/** The schema of a digest in a message. */
export const digest = z.custom<Digest>((value) => typeof value === 'string' && isDigest(value), {
  error: 'expected sha256: and 64 hex digits',
});

/** The digest of some bytes (text is taken as UTF-8). */
export const digestOf = (bytes: Uint8Array | string): Digest =>
  toDigest(createHash('sha256').update(bytes).digest('hex'));

/** A digest from the hex form that `createHash` ends with. */
export const toDigest = (hex: string): Digest => `sha256:${hex}`;

/** The 64 hex digits of a digest, for file names and container labels. */
export const hexOf = (sha256: Digest): string => sha256.slice('sha256:'.length);

/** The first twelve digits, for people. */
export const shortDigest = (sha256: Digest): string => hexOf(sha256).slice(0, 12);
