import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { KilnError, hasErrno } from '../core/errors.ts';
import type { AnnouncedFile } from '../core/kernel/rpm-metadata.ts';

/** How much one file may take. */
export interface FetchLimits {
  readonly bytes: number;
  readonly milliseconds: number;
}

const REDIRECTIONS = 5;
const REDIRECTED = [301, 302, 303, 307, 308];

/**
 * Fetches a file (http, https, file) to a path here; whether it was there. Redirections are followed, to https, or from http to http, a
 * few. Throws `too-large`, `unavailable`, and `unverified` where it is not what was `announced`.
 */
export const fetchFile = async (
  url: URL,
  path: string,
  limits: FetchLimits,
  announced: AnnouncedFile | null = null,
): Promise<boolean> => {
  const signal = AbortSignal.timeout(limits.milliseconds);
  try {
    const body = url.protocol === 'file:' ? await openFile(url) : await openAddress(url, signal);
    if (body === null) return false;
    const most = Math.min(limits.bytes, announced?.size ?? Infinity);
    const hash = createHash(announced?.checksum.algorithm ?? 'sha256');
    let size = 0;
    const meter = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        size += chunk.length;
        hash.update(chunk);
        if (size > most) done(tooLarge(url, most, announced));
        else done(null, chunk);
      },
    });
    await pipeline(body, meter, createWriteStream(path), { signal });
    if (announced !== null && size < announced.size)
      throw unverified(url, `has ${size} bytes of the ${announced.size} that the metadata says`);
    if (announced !== null && hash.digest('hex') !== announced.checksum.hex)
      throw unverified(
        url,
        `is not the file that the metadata says (${announced.checksum.algorithm})`,
      );
    return true;
  } catch (cause) {
    if (cause instanceof KilnError) throw cause;
    const isLate = signal.aborted;
    throw new KilnError(
      'unavailable',
      isLate
        ? `${url.href} took over ${limits.milliseconds / 60_000} min; the next look tries it again`
        : `${url.href} cannot be had: ${wordsOf(cause)}`,
      { cause },
    );
  }
};

const openFile = async (url: URL): Promise<Readable | null> => {
  const path = fileURLToPath(url);
  const found = await stat(path).catch((error: unknown) => {
    if (hasErrno(error, 'ENOENT')) return null;
    throw error;
  });
  if (found === null) return null;
  // A pipe or a device would have no end.
  if (!found.isFile()) throw new KilnError('unavailable', `${url.href} is no file`);
  return createReadStream(path);
};

const openAddress = async (from: URL, signal: AbortSignal): Promise<Readable | null> => {
  let url = from;
  for (let count = 0; count <= REDIRECTIONS; count += 1) {
    // Compressed on the way, the bytes would be others.
    const headers = { 'accept-encoding': 'identity' };
    const response = await fetch(url, { redirect: 'manual', headers, signal });
    if (response.ok && response.body !== null) return Readable.fromWeb(response.body);
    await response.body?.cancel();
    if (response.status === 404) return null;
    if (!REDIRECTED.includes(response.status))
      throw new KilnError('unavailable', `${url.href} answered with ${response.status}`);
    url = redirected(url, response.headers.get('location') ?? '');
  }
  throw new KilnError('unavailable', `${from.href} redirects more than ${REDIRECTIONS} times`);
};

const redirected = (from: URL, location: string): URL => {
  const to = URL.canParse(location, from.href) ? new URL(location, from) : null;
  if (
    to === null ||
    (to.protocol !== 'https:' && `${from.protocol}${to.protocol}` !== 'http:http:')
  )
    throw new KilnError(
      'unavailable',
      `${from.href} redirects to ${JSON.stringify(location.slice(0, 200))}; from there only https is followed${from.protocol === 'http:' ? ', or http' : ''}`,
    );
  return to;
};

const tooLarge = (url: URL, most: number, announced: AnnouncedFile | null): KilnError =>
  announced !== null && most === announced.size
    ? unverified(url, `has more than the ${most} bytes that the metadata says`)
    : new KilnError('too-large', `${url.href} has more than ${most} bytes, the most that is taken`);

const unverified = (url: URL, what: string): KilnError =>
  new KilnError(
    'unverified',
    `${url.href} ${what}; a mirror that is just being brought up to date mends itself, another base URL helps otherwise`,
  );

/** What went wrong, by the innermost words that there are: fetch's own say nothing. */
const wordsOf = (error: unknown): string => {
  const { cause, message } = error as { cause?: { message?: string; code?: string } } & Error;
  return (cause?.message || cause?.code || message).slice(0, 200);
};
