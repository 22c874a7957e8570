import { setTimeout as sleep } from 'node:timers/promises';
import { isDigest, type Digest } from '../../services/core/digest.ts';
import { KilnError } from '../../services/core/errors.ts';
import type { BuildView } from '../../services/core/protocol/build.ts';
import type { ToolchainView } from '../../services/core/protocol/toolchain.ts';
import { askForBuild, sendTree } from '../ask/ask.ts';
import { fetchKept, readKept, sendKept } from '../ask/kept-packages.ts';
import { hashFile } from '../ask/tree.ts';
import { onlyArgument, table, type Command, type Context } from '../command.ts';
import { contractParts } from './request.ts';

const toolchainPush: Command = {
  name: 'toolchain push',
  args: 'ROOTFS.tar',
  summary: 'add a toolchain: a root file system as a plain tarball (admin)',
  help: `images/make-toolchain makes such a tarball. Its SHA-256 is the toolchain's digest; the service runs it once, in the
sandbox, to record what it contains.
The first of a name is pinned at once; a later one is a candidate for its place: it builds for who names it, unsigned,
until it is promoted.
      --name NAME        what to call it
      --candidate        do not pin it, even as the first of its name
      --packages DIR     keep what it was made of, too: DIR is what make-toolchain --keep left. Only new packages are sent`,
  options: {
    name: { type: 'string' },
    candidate: { type: 'boolean' },
    packages: { type: 'string' },
  },
  async run(context) {
    const name = context.option('name');
    if (name === undefined) throw new KilnError('bad-request', 'name the toolchain with --name');
    const directory = context.option('packages');
    const kept = directory === undefined ? null : await readKept(directory, context.signal);
    const rootfs = onlyArgument(context, 'tarball');
    if (kept !== null && (await hashFile(rootfs, context.signal)) !== kept.makes)
      throw new KilnError('bad-request', `${directory} has what another toolchain was made of`);
    const { blob } = await sendTree(context, [rootfs], 'toolchain');
    let toolchain = await context.service.createToolchain(blob, name, context.flag('candidate'));
    while (toolchain.state === 'measuring') {
      context.progress.step(`measuring ${name}`);
      await sleep(200, undefined, { signal: context.signal });
      toolchain = await context.service.toolchain(blob);
    }
    if (toolchain.state === 'refused')
      throw new KilnError('bad-request', `the toolchain was refused: ${toolchain.problem ?? ''}`);
    if (kept !== null) toolchain = await sendKept(context, blob, kept);
    context.progress.done();
    context.print(describeToolchain(toolchain), toolchain);
  },
};

const toolchainPackages: Command = {
  name: 'toolchain packages',
  args: 'DIGEST',
  summary: 'list the packages that a toolchain was made of, or fetch them to make it again',
  help: `      -o, --output DIR   fetch them: images/make-toolchain DIR ROOTFS.tar makes the same digest of them, without an archive`,
  options: { output: { type: 'string', short: 'o' } },
  async run(context) {
    const toolchain = digestArgument(context);
    const kept = await context.service.keptPackages(toolchain);
    const directory = context.option('output');
    if (directory !== undefined) await fetchKept(context, toolchain, kept, directory);
    context.progress.done();
    context.print(
      directory === undefined
        ? table(kept.packages.map(({ name, version, digest }) => [name, version, digest]))
        : `${kept.packages.length} packages are in ${directory}; images/make-toolchain ${directory} ROOTFS.tar makes ${toolchain}`,
      kept,
    );
  },
};

const describeToolchain = ({
  name,
  digest,
  state,
  contents,
  isRemakeable,
}: ToolchainView): string =>
  [
    `toolchain ${name}  ${digest}  ${state}`,
    ...(contents === null
      ? []
      : [
          ...contents.compilers.map(({ path, version }) => `${path}: ${version}`),
          `${contents.linker.path}: ${contents.linker.version}`,
          `${contents.make.path}: ${contents.make.version}`,
          `${contents.packages.length} packages of ${contents.os}${isRemakeable ? ', kept with it' : ''}`,
        ]),
  ].join('\n');

const toolchainList: Command = {
  name: 'toolchain list',
  args: '',
  summary: 'list the toolchains; --json has every package',
  help: '',
  options: {},
  async run(context) {
    const toolchains = await context.service.toolchains();
    const rows = toolchains.map((t) => [
      t.name,
      t.state,
      t.contents?.compilers.map((c) => c.version)[0] ?? t.problem ?? '',
      t.digest,
      t.madeBy.name,
    ]);
    context.print(table([['TOOLCHAIN', 'STATE', 'COMPILER', 'DIGEST', 'BY'], ...rows]), toolchains);
  },
};

const toolchainPromote: Command = {
  name: 'toolchain promote',
  args: 'DIGEST',
  summary: 'pin a candidate in the place of the one that has its name, which is retired (admin)',
  help: `It must have built all that the pinned one has (kiln toolchain try).
      --untried          do without`,
  options: { untried: { type: 'boolean' } },
  async run(context) {
    const digest = digestArgument(context);
    const toolchain = await context.service.promoteToolchain(digest, context.flag('untried'));
    context.print(describeToolchain(toolchain), toolchain);
  },
};

const toolchainRetire: Command = {
  name: 'toolchain retire',
  args: 'DIGEST',
  summary:
    'take a toolchain out of use: it builds nothing new and rebuilds what it has built (admin)',
  help: '',
  options: {},
  async run(context) {
    const toolchain = await context.service.retireToolchain(digestArgument(context));
    context.print(describeToolchain(toolchain), toolchain);
  },
};

const toolchainRollback: Command = {
  name: 'toolchain rollback',
  args: 'NAME',
  summary: 'pin the one again that was retired last under a name (admin)',
  help: '',
  options: {},
  async run(context) {
    const name = onlyArgument(context, 'toolchain name');
    const retired = (await context.service.toolchains())
      .filter((each) => each.name === name && each.retiredAt !== null && each.pinnedAt !== null)
      .sort((a, b) => (b.retiredAt ?? 0) - (a.retiredAt ?? 0));
    const [last] = retired;
    if (last === undefined)
      throw new KilnError(
        'not-found',
        `no toolchain called ${name} was retired; see kiln toolchain list`,
      );
    const toolchain = await context.service.promoteToolchain(last.digest, true);
    context.print(describeToolchain(toolchain), toolchain);
  },
};

const toolchainTry: Command = {
  name: 'toolchain try',
  args: 'DIGEST',
  summary:
    'build with a candidate all that the pinned one of its name has built, and compare (admin)',
  help: `Ends with 1 if anything does not build. Other bytes are said, and no failure: another compiler makes them.
      --waive PART,…     as for kiln build`,
  options: { waive: { type: 'string' } },
  async run(context) {
    const digest = digestArgument(context);
    const candidate = await context.service.toolchain(digest);
    const pinned = (await context.service.toolchains()).find(
      ({ name, state }) => name === candidate.name && state === 'pinned',
    );
    if (pinned === undefined)
      throw new KilnError(
        'conflict',
        `no toolchain called ${candidate.name} is pinned to compare with`,
      );
    const made = await context.service.buildsOf(pinned.digest);
    const rows: Trial[] = [];
    for (const before of made) rows.push(await tryBuild(context, before, digest));
    context.progress.done();
    const lines = rows.map(({ source, kernel, verdict }) => [source, kernel, verdict]);
    context.print(table([['SOURCE', 'KERNEL', 'VERDICT'], ...lines]), rows);
    const failed = rows.filter(({ isBuilt }) => !isBuilt).length;
    if (failed > 0)
      throw new KilnError(
        'build-failed',
        `${failed} of ${rows.length} do not build with ${digest}`,
      );
  },
};

interface Trial {
  readonly source: string;
  readonly kernel: string;
  readonly verdict: string;
  readonly isBuilt: boolean;
}

const tryBuild = async (context: Context, before: BuildView, toolchain: Digest): Promise<Trial> => {
  const names = {
    source: `${before.source.name}/${before.source.version}`,
    kernel: before.kernel.release,
  };
  try {
    const { build } = await askForBuild(context, {
      source: { digest: before.source.digest },
      kernel: { digest: before.kernel.digest },
      toolchain,
      waive: [...contractParts(context)],
      background: true,
    });
    const digests = ({ modules }: BuildView): string =>
      modules.map(({ name, unsigned }) => `${name} ${unsigned}`).join(' ');
    const isSame = digests(build) === digests(before);
    return { ...names, verdict: isSame ? 'same bytes' : 'other bytes', isBuilt: true };
  } catch (error) {
    if (!(error instanceof KilnError) || context.signal.aborted) throw error;
    const [first = ''] = error.message.trim().split('\n');
    return { ...names, verdict: `fails: ${first.trim()}`, isBuilt: false };
  }
};

const digestArgument = (context: Context): Digest => {
  const digest = onlyArgument(context, 'digest');
  if (!isDigest(digest))
    throw new KilnError('bad-request', 'give a digest; kiln toolchain list shows them');
  return digest;
};

export const TOOLCHAIN_COMMANDS: readonly Command[] = [
  toolchainPush,
  toolchainList,
  toolchainPackages,
  toolchainTry,
  toolchainPromote,
  toolchainRollback,
  toolchainRetire,
];
