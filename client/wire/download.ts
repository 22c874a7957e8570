import { digestOf, type Digest } from '../../services/core/digest.ts';
import { KilnError } from '../../services/core/errors.ts';
import { CallFailed } from './fault.ts';
import { readPieces, type Send } from './http.ts';
import { keepTrying, type Patience } from './retry.ts';

const DOWNLOAD_LIMIT = 1024 ** 3;

/**
 * Downloads the bytes at a path, at most 1 GiB. Where the connection breaks, the next one resumes. Throws `unverified` if the bytes do
 * not have the digest.
 */
export const download = async (
  send: Send,
  patience: Patience,
  path: string,
  digest: Digest,
): Promise<Buffer> => {
  let pieces: Buffer[] = [];
  let size = 0;
  await keepTrying(patience, true, async (progressed) => {
    const headers: Record<string, string> =
      size === 0 ? {} : { Range: `bytes=${size}-`, 'If-Range': `"${digest}"` };
    const response = await send({ method: 'GET', path, headers, signal: patience.signal });
    if (!goesOn(response.statusCode, response.headers['content-range'], size)) {
      pieces = [];
      size = 0;
    }
    const end = size + Number(response.headers['content-length'] ?? Number.NaN);
    for await (const piece of readPieces(response)) {
      size += piece.length;
      if (size > DOWNLOAD_LIMIT)
        throw new KilnError('too-large', `the service sent over ${DOWNLOAD_LIMIT} bytes`);
      pieces.push(piece);
      progressed();
    }
    if (size < end) {
      throw new CallFailed('unreachable', 'the service’s answer was cut short; try again', {
        reason: 'answer cut short',
        mayPass: true,
        mayBeDone: true,
        wait: null,
      });
    }
  });
  const bytes = Buffer.concat(pieces);
  if (digestOf(bytes) !== digest) {
    throw new KilnError(
      'unverified',
      `what the service sent is not ${digest}; nothing was installed, try again`,
    );
  }
  return bytes;
};

/** Whether an answer resumes behind the bytes that are here already; if not, it starts from the beginning. */
const goesOn = (status: number | undefined, range: string | undefined, size: number): boolean =>
  status === 206 && (range ?? '').startsWith(`bytes ${size}-`);
