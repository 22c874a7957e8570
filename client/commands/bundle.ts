import { KilnError } from '../../services/core/errors.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import { askForBuild } from '../ask/ask.ts';
import type { Command } from '../command.ts';
import { writeBundle } from '../install/write-bundle.ts';
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
    const content = {
      server: context.config.server,
      builds: [...builds.values()],
      withdrawals: [...(await context.service.withdrawals())],
    };
    await writeBundle(file, content, (digest) => {
      context.progress.step(`fetching ${digest.slice(0, 19)}`);
      return context.service.artifact(digest);
    });
    context.progress.done();
    context.print(
      `${file}: ${[...builds.values()].map(({ source, kernel }) => `${source.name}/${source.version} for ${kernel.release}`).join(', ')}`,
      { file, builds: [...builds.keys()] },
    );
  },
};

export const BUNDLE_COMMANDS: readonly Command[] = [bundle];
