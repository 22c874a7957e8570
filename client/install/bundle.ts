import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { extract } from 'tar-stream';
import { z } from 'zod';
import { digestOf, hexOf, type Digest } from '../../services/core/digest.ts';
import { KilnError } from '../../services/core/errors.ts';
import { BuildView, type CreateBuild } from '../../services/core/protocol/build.ts';
import { WithdrawalView } from '../../services/core/protocol/withdrawal.ts';
import { readBytes } from '../wire/http.ts';
import { addWithdrawals } from '../installed/withdrawn.ts';
import type { Supply } from './supply.ts';

/**
 * A bundle: finished builds in one file, for hosts without a network. It is a tarball of `kiln-bundle.json`, which this schema
 * describes, and artifacts as `artifacts/HEX`, each named by its SHA-256. Only what the pinned certificate's key has signed is trusted.
 */
export const Bundle = z.object({
  format: z.literal(1),
  server: z.string(),
  builds: z.array(BuildView).max(10_000),
  /** All withdrawals at the time when the bundle was made. */
  withdrawals: z.array(WithdrawalView).max(10_000),
});
export type Bundle = z.infer<typeof Bundle>;

export const BUNDLE_INDEX = 'kiln-bundle.json';
export const artifactName = (digest: Digest): string => `artifacts/${hexOf(digest)}`;

const INDEX_LIMIT = 256 * 1024 ** 2;
const ARTIFACT_LIMIT = 1024 ** 3;

/** A bundle as a supply. Throws `bad-tarball` if the file is none. */
export const bundleSupply = async (file: string): Promise<Supply> => {
  const bytes = await readEntry(file, BUNDLE_INDEX, INDEX_LIMIT);
  const bundle = parseBundle(file, bytes);
  const of = ({ source, kernel }: BuildView): string =>
    `${source.name}/${source.version} for ${kernel.release}`;
  return {
    name: bundle.server,
    async build(request) {
      const [build, ...others] = bundle.builds.filter((each) => isMeant(each, request));
      if (build !== undefined && others.length === 0) return { build, isCached: true };
      if (build !== undefined)
        throw new KilnError(
          'conflict',
          `the bundle ${file} has ${[build, ...others].map(of).join(', ')}; name one, as in kiln install ${build.source.name}/${build.source.version}`,
        );
      const there = bundle.builds.map(of).join(', ');
      throw new KilnError(
        'not-found',
        `the bundle ${file} has no ${nameOf(request)}; it has ${there}; make one with kiln bundle where the service can be reached`,
      );
    },
    async dependency(id) {
      const build = bundle.builds.find((each) => each.id === id);
      if (build !== undefined) return build;
      throw new KilnError('not-found', `the bundle ${file} lacks build ${id}; make it anew`);
    },
    withdrawals: (host, forget) => addWithdrawals(host, bundle.withdrawals, forget),
    async artifact(digest) {
      const artifact = await readEntry(file, artifactName(digest), ARTIFACT_LIMIT);
      if (artifact !== null && digestOf(artifact) === digest) return artifact;
      throw new KilnError(
        'unverified',
        `the bundle ${file} ${artifact === null ? 'lacks' : 'has other bytes for'} ${digest}; nothing was installed, make it anew`,
      );
    },
  };
};

const parseBundle = (file: string, bytes: Buffer | null): Bundle => {
  try {
    return Bundle.parse(JSON.parse(bytes?.toString('utf8') ?? ''));
  } catch (cause) {
    throw new KilnError('bad-tarball', `${file} is no bundle; kiln bundle makes one`, { cause });
  }
};

const isMeant = ({ source, kernel }: BuildView, request: CreateBuild): boolean => {
  const isSource =
    'digest' in request.source
      ? request.source.digest === source.digest
      : request.source.name === source.name &&
        (request.source.version ?? source.version) === source.version;
  const isKernel =
    'digest' in request.kernel
      ? request.kernel.digest === kernel.digest
      : request.kernel.release === kernel.release;
  return isSource && isKernel;
};

const nameOf = ({ source, kernel }: CreateBuild): string => {
  const what =
    'digest' in source
      ? source.digest
      : `${source.name}${source.version === undefined ? '' : `/${source.version}`}`;
  return `${what} for ${'digest' in kernel ? kernel.digest : kernel.release}`;
};

/** One file of a tarball, or `null` if it has none of that name. Reading stops behind it. */
const readEntry = async (file: string, name: string, limit: number): Promise<Buffer | null> => {
  await stat(file).catch((cause: unknown) => {
    throw new KilnError('bad-request', `there is no file ${file}`, { cause });
  });
  const stream = createReadStream(file, { highWaterMark: 1024 * 1024 });
  const entries = stream.pipe(extract());
  stream.once('error', (error) => entries.destroy(error));
  try {
    for await (const entry of entries) {
      if (entry.header.name === name && entry.header.type === 'file')
        return await readBytes(entry as unknown as Readable, limit);
      entry.resume();
    }
    return null;
  } catch (cause) {
    if (cause instanceof KilnError) throw cause;
    throw new KilnError('bad-tarball', `${file} is no bundle; kiln bundle makes one`, { cause });
  } finally {
    stream.destroy();
  }
};
