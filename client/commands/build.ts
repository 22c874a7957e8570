import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { CONTRACT_PARTS } from '../../services/core/kernel/compiler-contract.ts';
import type { BuildView, CreateBuild } from '../../services/core/protocol/build.ts';
import { askForBuild } from '../ask/ask.ts';
import { onlyArgument, type Command, type Context } from '../command.ts';
import { chooseRelease } from '../host/host.ts';
import { fetchBuilds } from '../install/fetch.ts';
import { serviceSupply } from '../install/supply.ts';
import { readCertificate } from '../installed/verify.ts';
import { writeWhole } from '../transaction/whole-file.ts';
import { describeBuild } from './builds.ts';
import { BUILD_OPTIONS, namedRequest } from './request.ts';
import { SOURCE_HELP } from './source.ts';

export const build: Command = {
  name: 'build',
  args: 'SOURCE',
  summary: 'build a module and, with -o, fetch it',
  help: `SOURCE is NAME[/VERSION] of a pushed source, a directory or a tarball (gzip, xz, zstd or plain).
The kernel is a release the service knows, a digest, or headers in a directory or tarball.
On failure the compiler's own lines come first. ^C takes the request back.

  -k, --kernel KERNEL    default: the running kernel
  -o, --output DIR       write the modules there, verified where a certificate is pinned
      --allow-unsigned   … also where policy refused the signature
${SOURCE_HELP}
      --toolchain DIGEST build with it, and with no other
      --waive PART,…     build although the toolchain differs from what built the kernel in ${CONTRACT_PARTS.join(', ')}
      --retry            build once more what failed before
      --background       let go first what somebody waits for: for a matrix of builds
      --log              show the build's log while it runs`,
  options: {
    ...BUILD_OPTIONS,
    background: { type: 'boolean' },
    output: { type: 'string', short: 'o' },
    'allow-unsigned': { type: 'boolean' },
    log: { type: 'boolean' },
  },
  async run(context) {
    const source = onlyArgument(context, 'source (NAME[/VERSION], directory or tarball)');
    const kernel =
      context.option('kernel') ?? (await chooseRelease(await context.host(), undefined));
    const request = await namedRequest(context, source, kernel);
    const { build: made, isCached } = await askForBuild(context, request);
    const output = context.option('output');
    if (output !== undefined) {
      const modules = await fetchModules(context, request, made);
      await mkdir(output, { recursive: true });
      for (const { name, bytes } of modules) await writeWhole(join(output, `${name}.ko`), bytes);
    }
    context.progress.done();
    context.print(
      `${describeBuild(made)}\nanswer       ${isCached ? 'was there already' : 'built now'}`,
      { ...made, cached: isCached },
    );
  },
};

/**
 * A build's modules, checked against the pinned certificate as for an install. Where no certificate is pinned only the digests are
 * checked, and the user is told so.
 */
const fetchModules = async (
  context: Context,
  request: CreateBuild,
  made: BuildView,
): Promise<readonly { readonly name: string; readonly bytes: Buffer }[]> => {
  const { certificate: pinned, server } = context.config;
  if (pinned === null) {
    context.progress.say(
      'not verified: no certificate is pinned, so the modules are what the service says; run kiln setup URL, or give --certificate FILE',
    );
    return Promise.all(
      made.modules.map(async ({ name, signed, unsigned }) => ({
        name,
        bytes: await context.service.artifact(signed ?? unsigned),
      })),
    );
  }
  const supply = {
    ...serviceSupply(context, server),
    build: async () => ({ build: made, isCached: true }),
  };
  const certificate = await readCertificate(pinned);
  const allowUnsigned = context.flag('allow-unsigned');
  const fetched = await fetchBuilds(supply, request, { certificate, allowUnsigned });
  return fetched.find((each) => each.build.id === made.id)?.modules ?? [];
};
