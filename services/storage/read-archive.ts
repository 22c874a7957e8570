import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { Duplex, PassThrough, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { extract } from 'tar-stream';
import {
  createArchiveGate,
  DEFAULT_ARCHIVE_LIMITS,
  type AdmittedEntry,
  type ArchiveLimits,
} from '../core/archive-rules.ts';
import { toDigest, type Digest } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import type { ScannedArchive } from '../core/kernel.ts';
import type { TreeEntry } from '../core/tree.ts';

/** Gets each admitted entry in order; `body` must be read to its end. */
export type EntryVisitor = (entry: AdmittedEntry, body: AsyncIterable<Buffer>) => Promise<void>;

const MAGICS: readonly { readonly magic: Buffer; readonly decoder: () => Duplex }[] = [
  { magic: Buffer.from([0x1f, 0x8b]), decoder: createGunzip },
  { magic: Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), decoder: createZstdDecompress },
  { magic: Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]), decoder: () => xzDecoder() },
];

/** xz is not in Node; the xz program is. Its memory is bounded as its input is hostile. */
const xzDecoder = (): Duplex => {
  const child = spawn('xz', ['--decompress', '--stdout', '--memlimit=256MiB'], {
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  child.stdin.on('error', () => {});
  const output = new PassThrough();
  child.stdout.pipe(output, { end: false });
  child.on('error', (cause) =>
    output.destroy(
      new KilnError('internal', 'the xz program is missing on the service', { cause }),
    ),
  );
  child.on('close', (code) => {
    if (code === 0) output.end();
    else
      output.destroy(
        new KilnError(
          'bad-archive',
          'the archive’s xz compression is broken or cut short; send it again',
        ),
      );
  });
  output.on('close', () => child.kill('SIGKILL'));
  return Duplex.from({ writable: child.stdin, readable: output });
};

/** The tar inside: plain, gzip, zstd or xz, told by its first bytes. */
const openTar = async (archive: Readable): Promise<Readable> => {
  const first = await new Promise<Buffer>((resolve, reject) => {
    archive.once('error', reject);
    archive.once('end', () => resolve(Buffer.alloc(0)));
    archive.once('readable', () => {
      const chunk = archive.read() as Buffer | null;
      if (chunk !== null) archive.unshift(chunk);
      archive.removeListener('error', reject);
      resolve(chunk ?? Buffer.alloc(0));
    });
  });
  const format = MAGICS.find(({ magic }) => first.subarray(0, magic.length).equals(magic));
  if (format !== undefined) {
    const decoder = format.decoder();
    archive.once('error', (error) => decoder.destroy(error));
    decoder.once('close', () => archive.destroy());
    return archive.pipe(decoder);
  }
  if (first.toString('latin1', 257, 262) !== 'ustar') {
    throw new KilnError('bad-archive', 'this is no tar archive (plain, gzip, xz or zstd)');
  }
  return archive;
};

/**
 * Reads an archive once, from front to back, through the rules of `core/archive-rules.ts`.
 * Throws `bad-archive` or `too-large`; the visitor's own failure passes through.
 */
export const readArchive = async (
  archive: Readable,
  visit: EntryVisitor,
  limits: ArchiveLimits = DEFAULT_ARCHIVE_LIMITS,
): Promise<void> => {
  const gate = createArchiveGate(limits);
  const tar = extract();
  let problem: unknown;
  tar.on('entry', (header, body, next) => {
    // Destroying the reader destroys the entry at hand with the same error, which is reported once, below.
    body.on('error', () => {});
    const handle = async (): Promise<void> => {
      const entry = gate.admit({
        name: header.name,
        type: header.type,
        mode: header.mode,
        size: header.size,
        linkname: header.linkname,
      });
      await visit(entry, body as AsyncIterable<Buffer>);
      body.resume();
    };
    handle().then(
      () => next(),
      (error: unknown) => {
        problem = error;
        tar.destroy(error instanceof Error ? error : new Error(String(error)));
      },
    );
  });
  try {
    await pipeline(await openTar(archive), tar);
  } catch (error) {
    archive.destroy();
    throw asArchiveError(problem ?? error);
  }
  gate.finish();
};

const asArchiveError = (error: unknown): unknown => {
  if (error instanceof KilnError) return error;
  const text =
    error instanceof Error ? `${'code' in error ? String(error.code) : ''} ${error.message}` : '';
  if (
    /Unexpected end|Invalid header|exceeds max size|Z_|ZSTD_|zlib|unexpected end|Invalid tar|checksum|PREMATURE/i.test(
      text,
    )
  ) {
    return new KilnError(
      'bad-archive',
      'the archive is broken or cut short; make and send it again',
      { cause: error },
    );
  }
  return error;
};

const EVIDENCE_LIMIT = 4 * 1024 * 1024;
/** Of all evidence in one archive: it is kept in memory. */
const EVIDENCE_TOTAL = 16 * 1024 * 1024;

/** Hashes every file of an archive and keeps the content of those that `isEvidence` names. Writes nothing. */
export const scanArchive = async (
  archive: Readable,
  isEvidence: (path: string) => boolean,
  limits: ArchiveLimits = DEFAULT_ARCHIVE_LIMITS,
): Promise<ScannedArchive> => {
  const entries: TreeEntry[] = [];
  const files = new Map<string, { digest: Digest; executable: boolean }>();
  const evidence = new Map<string, Buffer>();
  await readArchive(
    archive,
    async (entry, body) => {
      if (entry.kind === 'directory') return;
      if (entry.kind === 'symlink') {
        entries.push(entry);
        return;
      }
      if (entry.kind === 'hardlink') {
        const target = files.get(entry.target);
        if (target === undefined) return;
        files.set(entry.path, target);
        entries.push({ kind: 'file', path: entry.path, ...target });
        return;
      }
      const file = {
        digest: await hashBody(body, entry.path, isEvidence, evidence),
        executable: entry.executable,
      };
      files.set(entry.path, file);
      entries.push({ kind: 'file', path: entry.path, ...file });
    },
    limits,
  );
  return { entries, evidence };
};

const hashBody = async (
  body: AsyncIterable<Buffer>,
  path: string,
  isEvidence: (path: string) => boolean,
  evidence: Map<string, Buffer>,
): Promise<Digest> => {
  const hash = createHash('sha256');
  const isKept = isEvidence(path);
  const kept: Buffer[] = [];
  let size = 0;
  for await (const chunk of body) {
    hash.update(chunk);
    size += chunk.length;
    if (!isKept) continue;
    if (size > EVIDENCE_LIMIT) {
      throw new KilnError(
        'too-large',
        `${path} is over ${EVIDENCE_LIMIT} bytes, more than such a file can be`,
      );
    }
    kept.push(chunk);
  }
  if (isKept) {
    const total = [...evidence.values()].reduce((sum, { length }) => sum + length, size);
    if (total > EVIDENCE_TOTAL || evidence.size > 1000) {
      throw new KilnError(
        'too-large',
        `the archive has too many files like ${path}; send one tree at a time`,
      );
    }
    evidence.set(path, Buffer.concat(kept));
  }
  return toDigest(hash.digest('hex'));
};
