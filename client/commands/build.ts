import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CONTRACT_PARTS, type ContractPart } from '../../services/core/kernel/compiler-contract.ts';
import { isDigest } from '../../services/core/digest.ts';
import { KilnError } from '../../services/core/errors.ts';
import type { BuildView, CreateBuild } from '../../services/core/protocol/build.ts';
import { askForBuild, nameKernel, nameSource } from '../ask/ask.ts';
import { listOption, onlyArgument, table, type Command, type Context } from '../command.ts';
import { chooseRelease } from '../host/host.ts';
import { writeWhole } from '../transaction/whole-file.ts';
import { fetchBuilds } from '../install/fetch.ts';
import { serviceSupply } from '../install/supply.ts';
import { readCertificate } from '../installed/verify.ts';
import { readSettings, sourceClaims, SOURCE_HELP, SOURCE_OPTIONS } from './source.ts';

/** Options that name what is to be built. */
export const BUILD_OPTIONS = {
  ...SOURCE_OPTIONS,
  kernel: { type: 'string', short: 'k' },
  toolchain: { type: 'string' },
  waive: { type: 'string' },
  retry: { type: 'boolean' },
} as const;

/** The parts of the compiler contract that `--waive` names. Throws `bad-request`. */
export const contractParts = (context: Context): readonly ContractPart[] =>
  (listOption(context, 'waive') ?? []).map((part) => {
    const known = CONTRACT_PARTS.find((each) => each === part);
    if (known === undefined)
      throw new KilnError('bad-request', `--waive takes ${CONTRACT_PARTS.join(', ')}`);
    return known;
  });

/** The request for one source and one kernel that a command line means. Trees that it names are sent first. */
export const namedRequest = async (
  context: Context,
  sourceName: string,
  kernelName: string,
): Promise<CreateBuild> => {
  const toolchain = context.option('toolchain');
  if (toolchain !== undefined && !isDigest(toolchain))
    throw new KilnError(
      'bad-request',
      '--toolchain takes a digest; kiln toolchain list shows them',
    );
  return {
    source: await nameSource(context, sourceName, sourceClaims(context)),
    kernel: await nameKernel(context, kernelName, await context.host()),
    waive: [...contractParts(context)],
    settings: (await readSettings(context)) ?? {},
    retry: context.flag('retry'),
    background: context.flag('background'),
    ...(toolchain === undefined ? {} : { toolchain }),
  };
};

/** A build in a few lines. */
export const describeBuild = (build: BuildView): string =>
  table([
    ['build', build.id],
    ['state', build.state],
    ['source', `${build.source.name}/${build.source.version}  ${build.source.digest}`],
    ['kernel', `${build.kernel.release}  ${build.kernel.digest}`],
    ['compiler', build.kernel.compiler],
    ['toolchain', `${build.toolchain.name}  ${build.toolchain.digest}`],
    ['fingerprint', build.fingerprint],
    ...build.modules.flatMap(({ name, unsigned, signed }) => [
      [`${name}.ko`, `unsigned  ${unsigned}`],
      ...(signed === null ? [] : [['', `signed    ${signed}`]]),
    ]),
    ...(build.signature?.kind === 'unsigned' ? [['not signed', build.signature.reason]] : []),
    ...(build.stale === null
      ? []
      : [['stale', 'newer headers of this release have come since it was built']]),
    ['asked by', build.madeBy.name],
    ...(build.withdrawn === null ? [] : [['withdrawn', build.withdrawn]]),
    ...(build.exclusion === null ? [] : [['excluded', build.exclusion]]),
    ...(build.failure === null
      ? []
      : [['failure', `${build.failure.message} (${build.failure.code})`]]),
  ]);

const build: Command = {
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

const show: Command = {
  name: 'show',
  args: 'BUILD',
  summary: 'show a build: its state, and all that its fingerprint covers (--json)',
  help: '',
  options: {},
  async run(context) {
    const found = await context.service.build(onlyArgument(context, 'build'));
    context.print(describeBuild(found), found);
  },
};

const list: Command = {
  name: 'list',
  args: '',
  summary: 'list the latest builds',
  help: `      --limit N          so many (default 200)`,
  options: { limit: { type: 'string' } },
  async run(context) {
    const text = context.option('limit') ?? '200';
    if (!/^[1-9]\d{0,5}$/.test(text))
      throw new KilnError('bad-request', '--limit takes a number from 1 to 999999');
    const builds = await context.service.builds(Number(text));
    const rows = builds.map(({ id, state, stale, withdrawn, source, kernel, madeBy }) => [
      id,
      [
        state,
        ...(stale === null ? [] : ['stale']),
        ...(withdrawn === null ? [] : ['withdrawn']),
      ].join(', '),
      `${source.name}/${source.version}`,
      kernel.release,
      madeBy.name,
    ]);
    context.print(table([['BUILD', 'STATE', 'SOURCE', 'KERNEL', 'ASKED BY'], ...rows]), builds);
  },
};

const logs: Command = {
  name: 'logs',
  args: 'BUILD',
  summary: 'print a build’s log so far',
  help: '',
  options: {},
  async run(context) {
    const log = await context.service.log(onlyArgument(context, 'build'));
    context.print(log.trimEnd(), { log });
  },
};

const rebuild: Command = {
  name: 'rebuild',
  args: 'BUILD',
  summary: 'make a finished build again and compare the bytes (ci)',
  help: `A build of which a module differs is withdrawn: hosts are not given it any more until an admin says
otherwise (kiln withdraw build BUILD --undo). Ends with 0 if all modules are the same, 6 if one differs, 1 if it failed.`,
  options: {},
  async run(context) {
    const id = onlyArgument(context, 'build');
    let state = await context.service.rebuild(id);
    while (state.state === 'running') {
      context.progress.step(`rebuilding ${id}`);
      await sleep(200, undefined, { signal: context.signal });
      state = await context.service.rebuildState(state.id);
    }
    context.progress.done();
    const found = state.findings.join(', ');
    if (state.state === 'failed')
      throw new KilnError('build-failed', `the rebuild failed: ${found}`);
    if (state.state === 'different') {
      throw new KilnError(
        'unverified',
        `one fingerprint, other bytes: ${found}; either the source puts in what is another each time (random numbers, a count), or Kiln did not hold still what it should. To tell, make it twice on one machine with dkms or make: if those differ in the same places, it is the source’s; if not, it is a defect, please report it. The build is withdrawn until an admin puts it back (kiln withdraw build ${id} --undo)`,
      );
    }
    context.print(`the same bytes again: build ${id}`, state);
  },
};

const cancel: Command = {
  name: 'cancel',
  args: 'BUILD',
  summary: 'cancel a build for everyone who waits for it (admin)',
  help: '',
  options: {},
  async run(context) {
    const cancelled = await context.service.cancel(onlyArgument(context, 'build'), null);
    context.print(describeBuild(cancelled), cancelled);
  },
};

export const BUILD_COMMANDS: readonly Command[] = [build, show, list, logs, rebuild, cancel];
