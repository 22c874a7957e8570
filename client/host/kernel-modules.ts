import { constants } from 'node:fs';
import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import * as zlib from 'node:zlib';
import { hasErrno, KilnError } from '../../services/core/errors.ts';
import { moduleNameOf } from '../../services/core/module/module-name.ts';
import { modulesDirectory, type Host } from './host.ts';
import { run } from './programs.ts';

/** How a module's file is compressed, by the end of its name. */
export type Suffix = '' | '.gz' | '.xz' | '.zst';

/** The modules that came with a kernel. */
export interface KernelModules {
  /** How they are compressed. */
  readonly suffix: Suffix;
  /** The path of one below `/lib/modules/RELEASE`, or `null`. `-` and `_` are one letter in a module's name. */
  find(name: string): Promise<string | null>;
  /** The path of one of the kernel's modules, whichever; `null` where the kernel came without modules. */
  any(): Promise<string | null>;
  /** The paths of at most `count` of the kernel's modules. */
  some(count: number): Promise<readonly string[]>;
}

const SUFFIXES: readonly Suffix[] = ['', '.gz', '.xz', '.zst'];
/** Of a `modules.dep`, in bytes; a distribution's kernel has half a megabyte. */
const INDEX_LIMIT = 32 * 1024 ** 2;
/** Of the files that came with a kernel; a distribution's has some 5,000. */
const FILES_LIMIT = 50_000;
/** Of a module, in bytes; the largest there are have some 100 MB. */
const MODULE_LIMIT = 512 * 1024 ** 2;

/** The path of a module that came with the kernel, and its suffix where it is compressed. */
const KERNEL_MODULE = /^(kernel\/[^:\s]{1,1000}\.ko)(\.gz|\.xz|\.zst)?$/;

/**
 * Lists the modules that came with a kernel, below its `kernel/`: from `modules.dep`, and from `modules.order` as well, since
 * `modules.dep` leaves out a module that another one overrides. Where depmod was never run yet (kernel-install runs it late), the
 * directory itself is listed.
 */
export const inTree = async (host: Host, release: string): Promise<KernelModules> => {
  const home = await modulesDirectory(host, release);
  const index = await readBounded(join(home, 'modules.dep'), INDEX_LIMIT).catch(
    (cause: unknown) => {
      if (hasErrno(cause, 'ENOENT')) return null;
      throw cause;
    },
  );
  const order = await readBounded(join(home, 'modules.order'), INDEX_LIMIT).catch(() => null);
  const listed =
    index === null
      ? await filesBelow(home)
      : index
          .toString('utf8')
          .split('\n')
          .map((line) => line.split(':', 1)[0] ?? '');
  const ordered = order?.toString('utf8').split('\n') ?? [];
  const paths = new Map<string, string>();
  for (const path of [...ordered, ...listed]) {
    const bare = KERNEL_MODULE.exec(path)?.[1];
    if (bare !== undefined && !bare.split('/').includes('..')) paths.set(moduleNameOf(bare), bare);
  }
  const find = async (name: string): Promise<string | null> => {
    const path = paths.get(moduleNameOf(name));
    if (path === undefined) return null;
    for (const suffix of SUFFIXES)
      if (await isFile(join(home, path + suffix))) return path + suffix;
    return null;
  };
  const some = async (count: number): Promise<readonly string[]> => {
    const found: string[] = [];
    for (const name of paths.keys()) {
      if (found.length === count) break;
      const path = await find(name);
      if (path !== null) found.push(path);
    }
    return found;
  };
  return {
    suffix: suffixOf(listed.find((path) => KERNEL_MODULE.test(path)) ?? ''),
    find,
    some,
    any: async () => (await some(1))[0] ?? null,
  };
};

/** The modules that a kernel's directory holds, as `modules.dep` would name them. */
const filesBelow = async (home: string): Promise<readonly string[]> => {
  const names = await readdir(join(home, 'kernel'), { recursive: true }).catch(() => []);
  return names.slice(0, FILES_LIMIT).map((name) => `kernel/${name}`);
};

/** How a module's file is compressed. */
export const suffixOf = (path: string): Suffix =>
  SUFFIXES.findLast((suffix) => suffix !== '' && path.endsWith(suffix)) ?? '';

const gunzip = promisify<Buffer, zlib.ZlibOptions, Buffer>(zlib.gunzip);
const unzstd = promisify<Buffer, zlib.ZstdOptions, Buffer>(zlib.zstdDecompress);
const gzip = promisify<Buffer, zlib.ZlibOptions, Buffer>(zlib.gzip);
const zstd = promisify<Buffer, zlib.ZstdOptions, Buffer>(zlib.zstdCompress);

/**
 * A module's bytes as the kernel loads them, from a file that may be compressed. Throws `install-failed` if it cannot be read, is
 * damaged or too large, or if there is no `xz` where it needs that.
 */
export const readModule = async (path: string): Promise<Buffer> => {
  const bytes = await readBounded(path, MODULE_LIMIT).catch((cause: unknown) => {
    if (cause instanceof KilnError) throw cause;
    throw new KilnError('install-failed', `the module ${path} cannot be read`, { cause });
  });
  const suffix = suffixOf(path);
  if (suffix === '') return bytes;
  if (suffix === '.xz') return unxz(path, bytes);
  const decompress = suffix === '.gz' ? gunzip : unzstd;
  return decompress(bytes, { maxOutputLength: MODULE_LIMIT }).catch((cause: unknown) => {
    throw damaged(path, cause instanceof Error ? cause.message : String(cause), cause);
  });
};

const unxz = async (path: string, input: Buffer): Promise<Buffer> => {
  const args = ['--decompress', '--stdout', '--memlimit-decompress=256MiB'];
  const { status, stdout, words, isMissing } = await run('xz', args, {
    input,
    limit: MODULE_LIMIT,
  });
  if (isMissing)
    throw new KilnError(
      'install-failed',
      `the module ${path} is compressed and ${words}; install the package xz-utils (xz on other distributions than Debian’s)`,
    );
  if (status !== 0) throw damaged(path, words, undefined);
  return stdout;
};

const damaged = (path: string, words: string, cause: unknown): KilnError =>
  new KilnError(
    'install-failed',
    `the module ${path} cannot be decompressed (${words}); install its package again`,
    { cause },
  );

/**
 * A module compressed as the kernel's own modules are, so that the kernel can decompress it (source: `scripts/Makefile.modinst`). The
 * same input gives the same bytes. `null` where the program for it is missing.
 */
export const compressModule = async (bytes: Buffer, suffix: Suffix): Promise<Buffer | null> => {
  switch (suffix) {
    case '':
      return bytes;
    case '.gz':
      return gzip(bytes, { level: 9 });
    case '.zst':
      return zstd(bytes, {
        params: { [zlib.constants.ZSTD_c_checksumFlag]: 1 },
        pledgedSrcSize: bytes.length,
      });
    case '.xz': {
      const args = ['--check=crc32', '--lzma2=dict=1MiB', '--threads=1', '--stdout'];
      const end = await run('xz', args, { input: bytes, limit: MODULE_LIMIT });
      if (end.isMissing) return null;
      if (end.status === 0) return end.stdout;
      throw new KilnError('install-failed', `xz failed (${end.words}); nothing was changed`);
    }
  }
};

const isFile = (path: string): Promise<boolean> =>
  stat(path).then(
    (stats) => stats.isFile(),
    () => false,
  );

/** A plain file's bytes. Throws `install-failed` where it is larger than `limit`, or something else than a file. */
const readBounded = async (path: string, limit: number): Promise<Buffer> => {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stats = await file.stat();
    if (!stats.isFile() || stats.size > limit)
      throw new KilnError(
        'install-failed',
        `${path} is ${stats.isFile() ? `over ${limit} bytes` : 'no file'}; install its package again`,
      );
    const bytes = Buffer.alloc(stats.size);
    let at = 0;
    while (at < bytes.length) {
      const { bytesRead } = await file.read(bytes, at, bytes.length - at, at);
      if (bytesRead === 0) break;
      at += bytesRead;
    }
    return bytes.subarray(0, at);
  } finally {
    await file.close();
  }
};
