import { execFile, spawn } from 'node:child_process';
import { Duplex, PassThrough, Transform, type Readable } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { KilnError } from '../core/errors.ts';
import { createByteReader } from './byte-reader.ts';

const MAGICS: readonly { readonly magic: Buffer; readonly decoder: () => Duplex }[] = [
  { magic: Buffer.from([0x1f, 0x8b]), decoder: createGunzip },
  { magic: Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), decoder: createZstdDecompress },
  { magic: Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]), decoder: () => xzDecoder() },
];

const noXz = (cause: Error): KilnError =>
  new KilnError(
    'internal',
    'the program xz is missing on the service; the admin installs xz-utils',
    {
      cause,
    },
  );

/** xz is not in Node; the xz program is. Its memory is bounded as its input is hostile. */
const xzDecoder = (): Duplex => {
  const child = spawn('xz', ['--decompress', '--stdout', '--memlimit=256MiB'], {
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  child.stdin.on('error', () => {});
  const output = new PassThrough();
  child.stdout.pipe(output, { end: false });
  child.on('error', (cause) => output.destroy(noXz(cause)));
  child.on('close', (code) => {
    if (code === 0) output.end();
    else
      output.destroy(
        new KilnError(
          'bad-tarball',
          'the tarball’s xz compression is broken or cut short; send it again',
        ),
      );
  });
  output.on('close', () => child.kill('SIGKILL'));
  return Duplex.from({ writable: child.stdin, readable: output });
};

/**
 * Unpacks one stream of xz that is there as a whole, with a bound for what comes out and for xz's memory (as xz(1) names it); what was wrong
 * otherwise.
 */
export const unpackXz = (
  packed: Buffer,
  most: number,
  memory: string,
): Promise<Buffer | 'too-large' | 'broken'> =>
  new Promise((resolve, reject) => {
    const args = ['--decompress', '--stdout', '--single-stream', `--memlimit=${memory}`];
    const child = execFile(
      'xz',
      args,
      { encoding: 'buffer', maxBuffer: most },
      (error, unpacked) => {
        if (error === null) resolve(unpacked);
        else if (error.code === 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER') resolve('too-large');
        else if (error.code === 'ENOENT') reject(noXz(error));
        else resolve('broken');
      },
    );
    child.stdin?.on('error', () => {});
    child.stdin?.end(packed);
  });

/** A stream and its first bytes, which stay to be read. */
export const peek = async (
  stream: AsyncIterable<Buffer>,
): Promise<{ readonly first: Buffer; readonly stream: Readable }> => {
  const reader = createByteReader(stream);
  const first = await reader.peek(512);
  return { first, stream: reader.rest() };
};

/** Whether bytes begin with others. */
export const startsWith = (bytes: Buffer, magic: Buffer): boolean =>
  bytes.subarray(0, magic.length).equals(magic);

/**
 * Decompresses gzip, zstd and xz, told by their first bytes; passes on all else. `count` gets how many bytes come out, and may throw.
 * Throws `bad-tarball` where xz is broken.
 */
export const decompress = async (
  compressed: AsyncIterable<Buffer>,
  count: (bytes: number) => void,
): Promise<Readable> => {
  const { first, stream } = await peek(compressed);
  const format = MAGICS.find(({ magic }) => startsWith(first, magic));
  if (format === undefined) return stream;
  const decoder = format.decoder();
  stream.once('error', (error) => decoder.destroy(error));
  decoder.once('close', () => stream.destroy());
  const meter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      try {
        count(chunk.length);
        done(null, chunk);
      } catch (error) {
        done(error as Error);
      }
    },
  });
  decoder.once('error', (error) => meter.destroy(error));
  meter.once('close', () => decoder.destroy());
  return stream.pipe(decoder).pipe(meter);
};
