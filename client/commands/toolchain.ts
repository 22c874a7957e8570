import { setTimeout as sleep } from 'node:timers/promises';
import { KilnError } from '../../services/core/errors.ts';
import type { ToolchainView } from '../../services/core/protocol.ts';
import { sendTree } from '../ask.ts';
import { onlyArgument, table, type Command } from '../command.ts';

const toolchainPush: Command = {
  name: 'toolchain push',
  args: 'ROOTFS.tar',
  summary: 'pin a toolchain: a root file system as a plain tar archive (admin)',
  help: `images/make-toolchain makes such an archive. Its SHA-256 is the toolchain's digest; the service runs it once, in the
sandbox, to record what it contains.
      --name NAME        what to call it`,
  options: { name: { type: 'string' } },
  async run(context) {
    const name = context.option('name');
    if (name === undefined) throw new KilnError('bad-request', 'name the toolchain with --name');
    const { blob } = await sendTree(context, [onlyArgument(context, 'tar archive')], 'toolchain');
    let toolchain = await context.service.createToolchain(blob, name);
    while (toolchain.state === 'measuring') {
      context.progress.step(`measuring ${name}`);
      await sleep(200, undefined, { signal: context.signal });
      toolchain = await context.service.toolchain(blob);
    }
    context.progress.done();
    if (toolchain.state === 'refused')
      throw new KilnError('bad-request', `the toolchain was refused: ${toolchain.problem ?? ''}`);
    context.print(describeToolchain(toolchain), toolchain);
  },
};

const describeToolchain = ({ name, digest, contents }: ToolchainView): string =>
  [
    `toolchain ${name}  ${digest}`,
    ...(contents === null
      ? []
      : [
          ...contents.compilers.map(({ path, version }) => `${path}: ${version}`),
          `${contents.linker.path}: ${contents.linker.version}`,
          `${contents.make.path}: ${contents.make.version}`,
          `${contents.packages.length} packages of ${contents.os}`,
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
    ]);
    context.print(table([['TOOLCHAIN', 'STATE', 'COMPILER', 'DIGEST'], ...rows]), toolchains);
  },
};

export const TOOLCHAIN_COMMANDS: readonly Command[] = [toolchainPush, toolchainList];
