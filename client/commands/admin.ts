import { setTimeout as sleep } from 'node:timers/promises';
import { KilnError } from '../../services/core/errors.ts';
import { ROLES, type Role } from '../../services/core/policy.ts';
import type { ToolchainView } from '../../services/core/protocol.ts';
import { sendTree } from '../ask.ts';
import { onlyArgument, table, type Command } from '../command.ts';

const sourcePush: Command = {
  name: 'source push',
  args: 'PATH',
  summary: 'give the service a module’s source (directory or tarball)',
  help: `A name and version, once pushed by ci or an admin, mean these bytes for good.
      --name, --version  name a source that does not name itself`,
  options: { name: { type: 'string' }, version: { type: 'string' } },
  async run(context) {
    const blob = await sendTree(context, onlyArgument(context, 'directory or tarball'), 'source');
    context.progress.step('reading it');
    const source = await context.service.createSource(blob, {
      name: context.option('name'),
      version: context.option('version'),
    });
    context.progress.done();
    context.print(`source ${source.name}/${source.version}  ${source.digest}`, source);
  },
};

const sourceList: Command = {
  name: 'source list',
  args: '',
  summary: 'list the sources that have a name here',
  help: '',
  options: {},
  async run(context) {
    const sources = await context.service.sources();
    context.print(
      table([
        ['SOURCE', 'KIND', 'DIGEST'],
        ...sources.map((s) => [`${s.name}/${s.version}`, s.kind, s.digest]),
      ]),
      sources,
    );
  },
};

const kernelPush: Command = {
  name: 'kernel push',
  args: 'PATH',
  summary:
    'give the service a kernel’s headers (directory or tarball); an admin’s push approves them',
  help: `PATH is a tree from / (with usr/src and usr/lib/linux-kbuild-*), or a single build tree, or a tarball of either.`,
  options: {},
  async run(context) {
    const blob = await sendTree(context, onlyArgument(context, 'directory or tarball'), 'headers');
    context.progress.step('reading them');
    const kernel = await context.service.createKernel(blob);
    context.progress.done();
    context.print(
      `kernel ${kernel.release} ${kernel.arch}  ${kernel.digest}\nbuilt with ${kernel.compiler}`,
      kernel,
    );
  },
};

const kernelList: Command = {
  name: 'kernel list',
  args: '',
  summary: 'list the kernels whose headers are here',
  help: '',
  options: {},
  async run(context) {
    const kernels = await context.service.kernels();
    const rows = kernels.map((k) => [
      k.release,
      k.arch,
      k.trust === 'admin' ? 'approved' : 'not approved',
      k.digest,
    ]);
    context.print(table([['KERNEL', 'ARCH', 'TRUST', 'DIGEST'], ...rows]), kernels);
  },
};

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
    const blob = await sendTree(context, onlyArgument(context, 'tar archive'), 'toolchain');
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

const tokenCreate: Command = {
  name: 'token create',
  args: 'NAME',
  summary: 'make a token; its secret is shown once (admin)',
  help: `      --role ROLE        client (default), ci or admin
      --days N           valid so long (default 365)`,
  options: { role: { type: 'string' }, days: { type: 'string' } },
  async run(context) {
    const role = context.option('role') ?? 'client';
    const isRole = (text: string): text is Role => ROLES.some((known) => known === text);
    if (!isRole(role)) throw new KilnError('bad-request', `--role takes ${ROLES.join(', ')}`);
    const days = Number(context.option('days') ?? '365');
    const token = await context.service.createToken(onlyArgument(context, 'name'), role, days);
    context.print(token.secret, token);
  },
};

const tokenList: Command = {
  name: 'token list',
  args: '',
  summary: 'list tokens, without secrets (admin)',
  help: '',
  options: {},
  async run(context) {
    const tokens = await context.service.tokens();
    const date = (time: number): string => new Date(time).toISOString().slice(0, 10);
    const rows = tokens.map((t) => [
      t.id,
      t.role,
      t.revokedAt === null ? `until ${date(t.expiresAt)}` : 'revoked',
      t.name,
    ]);
    context.print(table([['TOKEN', 'ROLE', 'VALID', 'NAME'], ...rows]), tokens);
  },
};

const tokenRevoke: Command = {
  name: 'token revoke',
  args: 'TOKEN',
  summary: 'end a token at once (admin)',
  help: '',
  options: {},
  async run(context) {
    const id = onlyArgument(context, 'token id');
    await context.service.revokeToken(id);
    context.print(`revoked ${shortId(id)}`, { revoked: id });
  },
};

const shortId = (id: string): string => id.slice(0, 8);

export const ADMIN_COMMANDS: readonly Command[] = [
  sourcePush,
  sourceList,
  kernelPush,
  kernelList,
  toolchainPush,
  toolchainList,
  tokenCreate,
  tokenList,
  tokenRevoke,
];
