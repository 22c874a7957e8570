import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { extract } from 'tar-stream';
import {
  createTarballGate,
  DEFAULT_TARBALL_LIMITS,
  type AdmittedEntry,
  type TarballLimits,
  type ClaimedEntry,
} from '../core/tree/tarball-rules.ts';
import { KilnError } from '../core/errors.ts';
import { CONTROL_FILE } from '../core/source/source.ts';
import { decompress, peek, startsWith } from './decompress.ts';
import { DEB_MAGIC, readDeb } from './read-deb.ts';
import { openRpm, readCpio, RPM_MAGIC } from './read-rpm.ts';

/** Gets each admitted entry in order; `body` must be read to its end. */
export type EntryVisitor = (entry: AdmittedEntry, body: AsyncIterable<Buffer>) => Promise<void>;

/** One tarball being read, with all that is inside it. */
interface Reading {
  readonly limits: TarballLimits;
  /** Counts decompressed bytes, wherever they come from; throws `too-large`. */
  readonly count: (bytes: number) => void;
  /** Gets every entry as its tarball claims it. */
  readonly visit: ClaimVisitor;
}

type ClaimVisitor = (claim: ClaimedEntry, body: AsyncIterable<Buffer>) => Promise<void>;

/** Reads tar, Debian's or an RPM package; or a tarball of such packages and of nothing else, where those are `welcome`. */
const readAny = async (
  bytes: AsyncIterable<Buffer>,
  reading: Reading,
  packages: 'welcome' | 'inside',
): Promise<void> => {
  const { first, stream: tarball } = await peek(bytes);
  if (startsWith(first, DEB_MAGIC)) {
    const isAlone = packages === 'welcome';
    await readDeb(tarball, {
      data: (tar) => readTar(tar, reading),
      control: (tar) =>
        readTar(tar, {
          ...reading,
          async visit(claim, body) {
            if (isAlone && claim.name.replace(/^\.\//, '') === 'control')
              await reading.visit({ ...claim, name: CONTROL_FILE }, body);
          },
        }),
    });
  } else if (startsWith(first, RPM_MAGIC)) {
    const cpio = await openRpm(tarball);
    await readCpio(await decompress(cpio, reading.count), reading.visit, reading.limits.entries);
  } else if (packages === 'inside') {
    throw new KilnError(
      'bad-tarball',
      'the tarball has a file called .deb or .rpm that is no such package; leave it out',
    );
  } else {
    await readTarOrPackages(tarball, reading);
  }
};

/** A tarball whose first entry is a package holds packages and nothing else; in any other, a package is a file like any. */
const readTarOrPackages = async (tarball: Readable, reading: Reading): Promise<void> => {
  let isOfPackages: boolean | null = null;
  await readTar(tarball, {
    ...reading,
    async visit(claim, body) {
      if (claim.type === 'directory' && /^\.?\/?$/.test(claim.name)) return;
      const isPackage = claim.type === 'file' && /^(\.\/)?[^/]+\.(deb|rpm)$/.test(claim.name);
      isOfPackages ??= isPackage;
      if (!isOfPackages) await reading.visit(claim, body);
      else if (isPackage) await readAny(body, reading, 'inside');
      else
        throw new KilnError(
          'bad-tarball',
          `the tarball has packages and ${JSON.stringify(claim.name.slice(0, 80))}; send packages alone, or a tree`,
        );
    },
  });
};

const readTar = async (tarball: Readable, reading: Reading): Promise<void> => {
  const { first, stream: plain } = await peek(await decompress(tarball, reading.count));
  if (first.toString('latin1', 257, 262) !== 'ustar') {
    plain.destroy();
    throw new KilnError(
      'bad-tarball',
      'the file is neither a tarball (plain, gzip, xz or zstd) nor a .deb or .rpm package; send one of these',
    );
  }
  const tar = extract();
  let problem: unknown;
  tar.on('entry', (header, body, next) => {
    // Destroying the reader destroys the entry at hand with the same error, which is reported once, below.
    body.on('error', () => {});
    const { name, type, mode, size, linkname } = header;
    const handle = async (): Promise<void> => {
      await reading.visit({ name, type, mode, size, linkname }, body as AsyncIterable<Buffer>);
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
    await pipeline(plain, tar);
  } catch (error) {
    throw problem ?? error;
  }
};

/** A tarball has half a KiB and some padding more for each entry. */
const OVERHEAD = 2048;

/**
 * Reads a tarball once, from front to back, through the rules of `core/tree/tarball-rules.ts`.
 * Throws `bad-tarball` or `too-large`; the visitor's own failure passes through.
 */
export const readTarball = (
  tarball: Readable,
  visit: EntryVisitor,
  limits: TarballLimits = DEFAULT_TARBALL_LIMITS,
): Promise<void> =>
  readBounded(tarball, visit, limits, (reading) => readAny(tarball, reading, 'welcome'));

/** What the tarball of a package's control files may be: some have long lists and scripts. */
const CONTROL_LIMITS: TarballLimits = { ...DEFAULT_TARBALL_LIMITS, bytes: 16 * 1024 ** 2 };

/** The control file of a Debian package, whose own files are passed over as they are. Throws `bad-tarball` or `too-large`. */
export const readControl = async (deb: Readable): Promise<string> => {
  const pieces: Buffer[] = [];
  const visit: EntryVisitor = async ({ path }, body) => {
    for await (const piece of body) if (path === 'control') pieces.push(piece);
  };
  await readBounded(deb, visit, CONTROL_LIMITS, (reading) =>
    readDeb(deb, { control: (tar) => readTar(tar, reading), data: async () => {} }),
  );
  return Buffer.concat(pieces).toString('utf8');
};

const readBounded = async (
  tarball: Readable,
  visit: EntryVisitor,
  limits: TarballLimits,
  read: (reading: Reading) => Promise<void>,
): Promise<void> => {
  const gate = createTarballGate(limits);
  const most = limits.bytes + limits.entries * OVERHEAD;
  let count = 0;
  const reading: Reading = {
    limits,
    count(bytes) {
      count += bytes;
      if (count > 2 * most) {
        throw new KilnError(
          'too-large',
          `the tarball unpacks to over ${limits.bytes} bytes, the limit of this service; send only what the build needs`,
        );
      }
    },
    visit: (claim, body) => visit(gate.admit(claim), body),
  };
  try {
    await read(reading);
  } catch (error) {
    throw asTarballError(error);
  } finally {
    tarball.destroy();
  }
  gate.finish();
};

const asTarballError = (error: unknown): unknown => {
  if (error instanceof KilnError) return error;
  const text =
    error instanceof Error ? `${'code' in error ? String(error.code) : ''} ${error.message}` : '';
  if (
    /Unexpected end|Invalid header|exceeds max size|Z_|ZSTD_|zlib|unexpected end|Invalid tar|checksum|PREMATURE/i.test(
      text,
    )
  ) {
    return new KilnError(
      'bad-tarball',
      'the tarball is broken or cut short; make and send it again',
      { cause: error },
    );
  }
  return error;
};
