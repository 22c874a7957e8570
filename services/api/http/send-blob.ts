import { pipeline } from 'node:stream/promises';
import type { Request, Response } from 'express';
import type { BlobInfo, Blobs } from '../../storage/blobs.ts';
import type { ByteRange } from '../../storage/verified-bytes.ts';

/**
 * The one range of bytes that a request wants (RFC 9110, 14.2), `null` for the whole: also where `If-Range` names other bytes, or
 * where several ranges are asked for. `outside` if there are no such bytes.
 */
const wantedRange = (
  request: Request,
  size: number,
  etag: string,
): ByteRange | 'outside' | null => {
  const condition = request.get('If-Range');
  const found = condition === undefined || condition === etag ? request.range(size) : undefined;
  if (found === -1) return 'outside';
  if (found === undefined || found === -2 || found.type !== 'bytes' || found.length !== 1)
    return null;
  return found[0] ?? null;
};

/** How long an answer may be kept, and by whom: what is called after its digest for ever, by who asked; the others are everybody's. */
const KEPT = {
  'by who asked': 'private, max-age=31536000, immutable',
  'for ever': 'public, max-age=31536000, immutable',
  'asked each time': 'public, no-cache',
} as const;

/** Answers with a blob's bytes, or the range of them that was asked for. */
export const sendBlob = async (
  blobs: Blobs,
  { digest, size }: BlobInfo,
  request: Request,
  response: Response,
  kept: keyof typeof KEPT = 'by who asked',
): Promise<null> => {
  const etag = `"${digest}"`;
  const range = wantedRange(request, size, etag);
  // The blob is opened before any header is sent: a damaged one must not begin as a good answer.
  const bytes = range === 'outside' ? null : await blobs.open(digest, range ?? undefined);
  response.set({
    'Accept-Ranges': 'bytes',
    ETag: etag,
    'Cache-Control': KEPT[kept],
  });
  if (range === 'outside' || bytes === null) {
    response.status(416).set('Content-Range', `bytes */${size}`).end();
    return null;
  }
  const { start, end } = range ?? { start: 0, end: size - 1 };
  if (range !== null) response.status(206).set('Content-Range', `bytes ${start}-${end}/${size}`);
  response.type('application/octet-stream').set('Content-Length', String(end - start + 1));
  await pipeline(bytes, response);
  return null;
};
