import { Readable } from 'node:stream';
import type { BlobPlace } from '../../services/storage/blob-place.ts';
import { openBlobs } from '../../services/storage/open-blobs.ts';

/** Puts a blob of so many MiB into a place (JSON), streams it back, and says how much memory that took at most: bytes. */

const MiB = 1024 ** 2;
const [place = '', count = ''] = process.argv.slice(2);

const pieces = function* (): Generator<Buffer> {
  for (let at = 0; at < Number(count); at += 1) yield Buffer.alloc(MiB, at % 251);
};

const blobs = await openBlobs(JSON.parse(place) as BlobPlace);
const bytes = Readable.from(pieces(), { objectMode: false });
const { digest } = await blobs.put(bytes, { limit: Number(count) * MiB });
let size = 0;
for await (const piece of await blobs.open(digest)) size += (piece as Buffer).length;
if (size !== Number(count) * MiB) throw new Error(`${size} bytes came back`);
process.stdout.write(String(process.resourceUsage().maxRSS * 1024));
