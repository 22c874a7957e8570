import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createZstdCompress, createZstdDecompress } from 'node:zlib';
import type { Digest } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import { openBlobDirectory, type Blobs } from '../storage/blobs.ts';
import { transact, type Database } from '../storage/database.ts';
import { codeOf } from '../storage/insisting.ts';
import { mustBeEmpty, notWhole, readRecord, recordLines } from '../storage/record-copy.ts';
import { isNamed, mentionedBlobs } from './record/named-blobs.ts';

/** Backups: the record as it was at one moment, and all bytes that it names. Keys are not in it. */

/** What a Kiln keeps. */
export interface Kept {
  readonly db: Database;
  readonly blobs: Blobs;
}

/** What was copied: rows, and blobs that were not there yet. */
export interface Copied {
  readonly rows: number;
  readonly blobs: number;
  readonly bytes: number;
}

type Say = (words: string) => void;

const RECORD = 'record.jsonl.zst';
const BLOBS = 'blobs';

/**
 * Writes a backup into a directory, in the place of the one that is there, whose bytes are not read again. May be done while the Kiln runs.
 * `say` gets how far it is. Throws `internal` where bytes that the record names are damaged or missing.
 */
export const backUp = async (from: Kept, directory: string, say: Say): Promise<Copied> => {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const file = join(directory, RECORD);
  const { rows, wanted, others } = await writeRecord(from.db, `${file}.part`);
  say(`record: ${rows} rows`);
  const to = await openBlobDirectory(join(directory, BLOBS));
  const copied = await copyBlobs(
    [...wanted, ...others],
    from.blobs,
    to,
    say,
    async (blob, error) => {
      const isMissing = error instanceof KilnError && error.code === 'not-found';
      // The Kiln runs: what nothing names any more may have gone since.
      if (!isMissing || (wanted.has(blob) && (await isNamed(from.db, blob)))) throw error;
    },
  );
  await rename(`${file}.part`, file);
  return { rows, ...copied };
};

/** Puts a backup into a Kiln that has nothing yet. Throws `not-found`, `conflict`, or `bad-request` where it is not whole. */
export const restore = async (directory: string, to: Kept, say: Say): Promise<Copied> => {
  await mustBeBackup(directory);
  const from = await openBlobDirectory(join(directory, BLOBS));
  const copied = await fill(join(directory, RECORD), from, to, say);
  await mustHaveAll(to);
  return copied;
};

/** Throws `not-found` where a directory has no backup. */
export const mustBeBackup = async (directory: string): Promise<void> => {
  const file = join(directory, RECORD);
  if ((await stat(file).catch(() => null)) === null)
    throw new KilnError('not-found', `there is no ${file}; name the directory of a backup`);
};

/** Copies all that a Kiln keeps, which does not run, to another that has nothing yet. `directory` has room for the record meanwhile. */
export const moveTo = async (
  from: Kept,
  to: Kept,
  directory: string,
  say: Say,
): Promise<Copied> => {
  const file = join(directory, RECORD);
  try {
    await writeRecord(from.db, file);
    return await fill(file, from.blobs, to, say);
  } finally {
    await rm(file, { force: true });
  }
};

/** Bytes first, the record last: where the record is, all is. */
const fill = async (file: string, from: Blobs, to: Kept, say: Say): Promise<Copied> => {
  await mustBeEmpty(to.db);
  const mentioned = new Set<string>();
  await readLines(file, async (lines) => {
    for await (const line of lines)
      for (const [digest] of line.matchAll(/sha256:[0-9a-f]{64}/g)) mentioned.add(digest);
  });
  const wanted: Digest[] = [];
  for await (const { digest } of from.list()) if (mentioned.has(digest)) wanted.push(digest);
  const copied = await copyBlobs(wanted, from, to.blobs, say);
  const rows = await readLines(file, (lines) => readRecord(to.db, lines));
  say(`record: ${rows} rows`);
  return { rows, ...copied };
};

/** Throws `internal` where a Kiln lacks bytes that its record names: they were lost before it was made. */
export const mustHaveAll = async (kept: Kept): Promise<void> => {
  const missing = await findMissing(kept);
  if (missing.length > 0)
    throw new KilnError(
      'internal',
      `all is here but ${missing.length} blobs, which the record names and nobody had, such as ${missing[0]}; what they belong to is to be built or sent again`,
    );
};

const findMissing = async ({ db, blobs }: Kept): Promise<readonly Digest[]> => {
  const missing: Digest[] = [];
  for (const blob of (await mentionedBlobs(db)).blobs)
    if ((await blobs.find(blob)) === null) missing.push(blob);
  return missing;
};

const writeRecord = (
  db: Database,
  file: string,
): Promise<{
  readonly rows: number;
  readonly wanted: ReadonlySet<Digest>;
  readonly others: ReadonlySet<Digest>;
}> =>
  transact(db, async (on) => {
    let lines = 0;
    const counted = async function* (): AsyncGenerator<string> {
      for await (const line of recordLines(on)) {
        lines += 1;
        yield line;
      }
    };
    await pipeline(
      counted,
      createZstdCompress(),
      createWriteStream(file, { mode: 0o600, flush: true }),
    );
    // But for the first and the last.
    const { blobs: wanted, digests: others } = await mentionedBlobs(on);
    return { rows: lines - 2, wanted, others };
  });

const readLines = <T>(
  file: string,
  take: (lines: AsyncIterable<string>) => Promise<T>,
): Promise<T> =>
  pipeline(createReadStream(file), createZstdDecompress(), (bytes) =>
    take(splitLines(bytes)),
  ).catch((error: unknown) => {
    throw codeOf(error).startsWith('Z') ? notWhole('it is cut, or no zstd', error) : error;
  });

/** In characters: a build's row has all settings that came with it. */
const LONGEST_LINE = 256 * 1024 ** 2;

async function* splitLines(bytes: AsyncIterable<Buffer>): AsyncGenerator<string> {
  let rest = '';
  const decoder = new TextDecoder();
  for await (const piece of bytes) {
    const lines = `${rest}${decoder.decode(piece, { stream: true })}`.split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > LONGEST_LINE) throw notWhole('a line of it has no end');
    yield* lines;
  }
  if (rest !== '') yield rest;
}

/** Milliseconds between two words of how far it is. */
const SAY_EVERY = 2000;

const copyBlobs = async (
  digests: readonly Digest[],
  from: Blobs,
  to: Blobs,
  say: Say,
  onFailure?: (blob: Digest, error: unknown) => Promise<void>,
): Promise<{ readonly blobs: number; readonly bytes: number }> => {
  let blobs = 0;
  let bytes = 0;
  let saidAt = Date.now();
  for (const [index, digest] of digests.entries()) {
    if (Date.now() - saidAt > SAY_EVERY) {
      say(`blobs: ${index} of ${digests.length}, ${bytes} bytes copied`);
      saidAt = Date.now();
    }
    if ((await to.find(digest)) !== null) continue;
    try {
      const { size } = await to.put(await from.open(digest), { expected: digest, limit: Infinity });
      blobs += 1;
      bytes += size;
    } catch (error) {
      if (onFailure === undefined) throw error;
      await onFailure(digest, error);
    }
  }
  say(`blobs: ${digests.length}, ${blobs} of them copied, ${bytes} bytes`);
  return { blobs, bytes };
};
