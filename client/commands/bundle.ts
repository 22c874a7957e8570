import { createWriteStream } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { pack } from 'tar-stream';
import type { Digest } from '../../services/core/digest.ts';
import { KilnError } from '../../services/core/errors.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { askForBuild } from '../ask/ask.ts';
import { artifactName, BUNDLE_INDEX, type Bundle } from '../install/bundle.ts';
import type { Command, Context } from '../command.ts';
import { syncPath } from '../transaction/whole-file.ts';
import { BUILD_OPTIONS, namedRequest } from './request.ts';

const bundle: Command = {
  name: 'bundle',
  args: 'SOURCE…',
  summary: 'put finished modules into one file, for hosts without a network',
  help: `What is not built yet is built now. On the host: kiln install --bundle FILE NAME; it is verified as from the service.

  -k, --kernel KERNEL    which kernel; may be repeated
  -o, --output FILE      default: kiln.bundle
      --name, --version, --toolchain, --retry   as for kiln build`,
  options: {
    ...BUILD_OPTIONS,
    kernel: { type: 'string', short: 'k', multiple: true },
    output: { type: 'string', short: 'o' },
    log: { type: 'boolean' },
  },
  async run(context) {
    const kernels = context.options('kernel');
    if (context.args.length === 0 || kernels.length === 0)
      throw new KilnError('bad-request', 'name what to bundle, and each kernel with -k');
    const builds = new Map<string, BuildView>();
    const take = async (build: BuildView): Promise<void> => {
      for (const id of build.dependencies)
        if (!builds.has(id)) await take(await context.service.build(id));
      builds.set(build.id, build);
    };
    for (const source of context.args)
      for (const kernel of kernels)
        await take((await askForBuild(context, await namedRequest(context, source, kernel))).build);
    const file = context.option('output') ?? 'kiln.bundle';
    await write(context, file, [...builds.values()]);
    context.progress.done();
    context.print(
      `${file}: ${[...builds.values()].map(({ source, kernel }) => `${source.name}/${source.version} for ${kernel.release}`).join(', ')}`,
      { file, builds: [...builds.keys()] },
    );
  },
};

/** Writes the bundle to a file beside its place, and renames it into place. */
const write = async (
  context: Context,
  file: string,
  builds: readonly BuildView[],
): Promise<void> => {
  const arrival = `${file}.kiln-new`;
  // Whatever has the name is removed first: writing through a link that somebody left there would change another file.
  await rm(arrival, { force: true });
  const tar = pack();
  const written = pipeline(tar, createWriteStream(arrival, { flags: 'wx' }));
  try {
    const index: Bundle = {
      format: 1,
      server: context.config.server,
      builds: [...builds],
      withdrawals: [...(await context.service.withdrawals())],
    };
    const add = (name: string, bytes: Buffer): void =>
      void tar.entry({ name, mtime: new Date(0) }, bytes);
    add(BUNDLE_INDEX, Buffer.from(JSON.stringify(index)));
    for (const digest of artifactsOf(builds)) {
      context.progress.step(`fetching ${digest.slice(0, 19)}`);
      add(artifactName(digest), await context.service.artifact(digest));
    }
    tar.finalize();
    await written;
    await syncPath(arrival);
    await rename(arrival, file);
  } catch (error) {
    tar.destroy();
    await written.catch(() => {});
    await rm(arrival, { force: true });
    throw error;
  }
};

const artifactsOf = (builds: readonly BuildView[]): ReadonlySet<Digest> =>
  new Set(
    builds.flatMap(({ modules, attestation }) => [
      ...modules.map(({ signed, unsigned }) => signed ?? unsigned),
      ...(attestation === null ? [] : [attestation]),
    ]),
  );

export const BUNDLE_COMMANDS: readonly Command[] = [bundle];
