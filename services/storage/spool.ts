import { randomUUID } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Digest } from '../core/digest.ts';
import { asStorageFull, createMeter } from './arrival.ts';
import { fileSource } from './blob-file.ts';

/** Bytes that wait in a file without a name, so that nothing of them is left whoever dies. */
export interface Spooled {
  readonly digest: Digest;
  readonly size: number;
  /** The bytes from their first on, as often as it is called. */
  pieces(): AsyncIterable<Buffer>;
  close(): Promise<void>;
}

/** Writes a stream's bytes below a directory. Throws `too-large`, `digest-mismatch` and `storage-full` as `Blobs.put` does. */
export const spool = async (
  bytes: Readable,
  directory: string,
  { limit, expected }: { readonly limit: number; readonly expected?: Digest | undefined },
): Promise<Spooled> => {
  const path = join(directory, `kiln-${randomUUID()}`);
  const handle = await open(path, 'wx+', 0o600).catch((error: unknown) => {
    throw asStorageFull(error);
  });
  try {
    await rm(path);
    const meter = createMeter(limit);
    await pipeline(bytes, meter.stream, async (pieces: AsyncIterable<Buffer>) => {
      for await (const piece of pieces) await handle.writeFile(piece);
    });
    const { digest, size } = meter.end(expected);
    return {
      digest,
      size,
      async *pieces() {
        const source = fileSource(handle);
        for (let piece = await source.next(); piece.length > 0; piece = await source.next())
          yield piece;
      },
      close: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw asStorageFull(error);
  }
};
