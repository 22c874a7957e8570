import { BUILD_PATH } from '../core/build/build-environment.ts';
import type { Digest } from '../core/digest.ts';
import { hexOf } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import { parseMeasurement, type ToolchainContents } from '../core/toolchain/measurement.ts';
import type { Blobs } from '../storage/blobs.ts';
import type { Meters } from '../storage/meters.ts';
import { imageName, type CacheRoom } from './cache-room.ts';
import type { ContainerEngine } from './docker.ts';
import type { Sandbox } from './sandbox.ts';

/** Toolchains as images of this machine's Docker, made from their blobs when first needed. */
export interface ImageCache {
  /** The id of a toolchain's image. Its one layer is the root file system with that digest, checked each time. */
  get(toolchain: Digest): Promise<string>;
}

export const createImageCache = (
  engine: ContainerEngine,
  blobs: Blobs,
  room: Pick<CacheRoom, 'used'>,
  meters: Pick<Meters, 'count'>,
): ImageCache => {
  const underWay = new Map<Digest, Promise<string>>();
  const fetch = async (toolchain: Digest): Promise<string> => {
    const found = await engine.findImage(toolchain);
    const result = found === null ? 'miss' : 'hit';
    meters.count('kiln_cache_lookups_total', { kind: 'image', result });
    const id = found ?? (await engine.importImage(toolchain, await blobs.open(toolchain)));
    await room.used(imageName(toolchain));
    return id;
  };
  return {
    get(toolchain) {
      const waiting = underWay.get(toolchain);
      if (waiting !== undefined) return waiting;
      const started = fetch(toolchain).finally(() => underWay.delete(toolchain));
      underWay.set(toolchain, started);
      return started;
    },
  };
};

const FACTS_LIMIT = 1024 * 1024;

/** Runs `images/measure` in a toolchain, in the sandbox, and reads what it says. */
export const measureToolchain = async (
  toolchain: Digest,
  deps: { readonly images: ImageCache; readonly sandbox: Sandbox; readonly script: string },
  signal: AbortSignal,
): Promise<ToolchainContents> => {
  const image = await deps.images.get(toolchain);
  const facts: Buffer[] = [];
  let size = 0;
  const { exitCode } = await deps.sandbox.run(
    {
      image,
      script: deps.script,
      args: [],
      environment: { PATH: BUILD_PATH, LC_ALL: 'C' },
      mounts: [],
      workplaces: [],
      labels: { 'kiln.measure': hexOf(toolchain) },
    },
    {
      log: () => {},
      output(piece) {
        size += piece.length;
        if (size > FACTS_LIMIT)
          throw new KilnError('bad-request', 'the toolchain’s measurement is over 1 MiB');
        facts.push(Buffer.from(piece));
      },
    },
    signal,
  );
  if (exitCode !== 0) {
    throw new KilnError(
      'bad-request',
      `the toolchain cannot be measured: exit status ${exitCode}; it needs bash, coreutils and dpkg`,
    );
  }
  return parseMeasurement(Buffer.concat(facts).toString('utf8'));
};
