import { KilnError } from '../../services/core/errors.ts';
import type { BuildView } from '../../services/core/protocol.ts';
import { onlyArgument, table, type Command, type Context } from '../command.ts';
import { chooseRelease, modulesDirectory } from '../host.ts';
import {
  INSTALL_DIRECTORY,
  installFiles,
  removeFiles,
  type ModuleBytes,
} from '../install-files.ts';
import { listReceipts, readReceipt, type Receipt } from '../receipts.ts';
import { certificateId, readCertificate, verifyBytes, verifyReceipt } from '../verify.ts';
import { BUILD_OPTIONS, describeBuild, requestedBuild } from './build.ts';

const install: Command = {
  name: 'install',
  args: 'SOURCE',
  summary: 'get a module built, verify it and install it',
  help: `Before anything is changed the module's digest, its signature against the pinned certificate, its name and its
vermagic are verified. It goes to /lib/modules/RELEASE/${INSTALL_DIRECTORY}, depmod is run, and a receipt is kept in
/var/lib/kiln/receipts; if a step fails, all is put back.

  -k, --kernel RELEASE   default: the running kernel, or the only one below --root
      --root DIR         install into another root
      --allow-unsigned   install also what policy left unsigned
      --name, --version, --toolchain, --retry   as for kiln build`,
  options: { ...BUILD_OPTIONS, 'allow-unsigned': { type: 'boolean' }, log: { type: 'boolean' } },
  async run(context) {
    const host = await context.host();
    const started = performance.now();
    const certificate = context.flag('allow-unsigned')
      ? null
      : await readCertificate(context.config.certificate);
    const { build, isCached } = await requestedBuild(context);
    const { release } = build.kernel;
    await modulesDirectory(host, release);

    const isSigned = build.signature?.kind === 'signed';
    if (!isSigned && !context.flag('allow-unsigned')) {
      const reason =
        build.signature?.kind === 'unsigned' ? build.signature.reason : 'it is not signed';
      throw new KilnError(
        'unverified',
        `the module was built but not signed: ${reason}; --allow-unsigned installs it all the same`,
      );
    }
    context.progress.step('verifying');
    const pinned = isSigned
      ? (certificate ?? (await readCertificate(context.config.certificate)))
      : null;
    const modules = await fetchModules(context, build, (bytes, name) =>
      verifyBytes(
        bytes,
        { name, release, arch: build.kernel.arch, vermagic: build.kernel.vermagic },
        pinned,
      ),
    );
    context.progress.step('installing');
    const receipt = receiptOf(
      build,
      context.config.server,
      pinned === null ? null : certificateId(pinned),
    );
    await installFiles(host, receipt, modules);
    context.progress.done();
    const paths = receipt.modules.map(({ path }) => `/lib/modules/${release}/${path}`);
    const seconds = (performance.now() - started) / 1000;
    context.print(
      `${describeBuild(build)}\ninstalled    ${paths.join('\n             ')}\nanswer       ${isCached ? 'was there already' : 'built now'}, installed after ${seconds.toFixed(2)} s`,
      { build, cached: isCached, installed: paths, root: host.root, seconds },
    );
  },
};

const fetchModules = async (
  context: Context,
  build: BuildView,
  verify: (bytes: Buffer, name: string) => void,
): Promise<readonly ModuleBytes[]> => {
  const modules: ModuleBytes[] = [];
  for (const { name, signed, unsigned, modinfo } of build.modules) {
    if (!/^[A-Za-z0-9_-]{1,64}$/.test(name))
      throw new KilnError('unverified', 'the service sent a module with an impossible name');
    const bytes = await context.service.artifact(signed ?? unsigned);
    verify(bytes, modnameOf(name, modinfo));
    modules.push({ name, bytes });
  }
  if (modules.length === 0) throw new KilnError('unverified', 'the build has no modules');
  return modules;
};

const modnameOf = (name: string, modinfo: readonly (readonly [string, string])[]): string =>
  modinfo.find(([key]) => key === 'name')?.[1] ?? name;

const receiptOf = (build: BuildView, server: string, signer: string | null): Receipt => ({
  name: build.source.name,
  version: build.source.version,
  release: build.kernel.release,
  arch: build.kernel.arch,
  vermagic: build.kernel.vermagic,
  build: build.id,
  fingerprint: build.fingerprint,
  toolchain: build.toolchain.digest,
  server,
  signer,
  modules: build.modules.map(({ name, signed, unsigned, modinfo }) => ({
    name,
    modname: modnameOf(name, modinfo),
    path: `${INSTALL_DIRECTORY}/${name}.ko`,
    digest: signed ?? unsigned,
    unsigned,
  })),
  installedAt: Date.now(),
});

const remove: Command = {
  name: 'remove',
  args: 'NAME',
  summary: 'take an installed module away',
  help: `  -k, --kernel RELEASE   default: the running kernel, or the only one below --root
      --root DIR         from another root`,
  options: { kernel: { type: 'string', short: 'k' } },
  async run(context) {
    const host = await context.host();
    const name = onlyArgument(context, 'module source');
    const release = await chooseRelease(host, context.option('kernel'));
    const receipt = await readReceipt(host, release, name);
    if (receipt === null)
      throw new KilnError(
        'not-found',
        `${name} was not installed by kiln for ${release}; kiln status lists what was`,
      );
    await removeFiles(host, receipt);
    context.print(`removed ${name}/${receipt.version} from ${release}`, receipt);
  },
};

const status: Command = {
  name: 'status',
  args: '',
  summary: 'list what is installed, and whether it still is what was installed',
  help: '      --root DIR         of another root',
  options: {},
  async run(context) {
    const host = await context.host();
    const rows = await Promise.all(
      (await listReceipts(host)).receipts.map(async (receipt) => {
        const verdicts = await verifyReceipt(host, receipt, () =>
          readCertificate(context.config.certificate),
        );
        const problem = verdicts.find((verdict) => verdict.problem !== null)?.problem ?? null;
        return { ...receipt, state: problem === null ? 'installed' : 'broken', problem };
      }),
    );
    const lines = rows.map((row) => [
      row.release,
      `${row.name}/${row.version}`,
      row.problem === null ? 'installed' : `broken: ${row.problem}`,
      row.signer === null ? 'unsigned' : 'signed',
    ]);
    context.print(lines.length === 0 ? 'nothing is installed by kiln' : table(lines), rows);
  },
};

const verify: Command = {
  name: 'verify',
  args: '[NAME]',
  summary: 'check installed modules’ bytes, signature, name and vermagic; asks nobody',
  help: `Exit status 6 if any does not pass.
      --root DIR         of another root`,
  options: {},
  async run(context) {
    const host = await context.host();
    const [name] = context.args;
    const { receipts: all, damaged } = await listReceipts(host);
    if (damaged.length > 0)
      throw new KilnError(
        'unverified',
        `damaged receipts: ${damaged.join(', ')}; install their modules again`,
      );
    const receipts = all.filter((receipt) => name === undefined || receipt.name === name);
    if (receipts.length === 0)
      throw new KilnError(
        'not-found',
        name === undefined ? 'nothing is installed by kiln' : `${name} was not installed by kiln`,
      );
    const verdicts = (
      await Promise.all(
        receipts.map((receipt) =>
          verifyReceipt(host, receipt, () => readCertificate(context.config.certificate)),
        ),
      )
    ).flat();
    context.print(table(verdicts.map(({ path, problem }) => [path, problem ?? 'ok'])), verdicts);
    const bad = verdicts.filter(({ problem }) => problem !== null);
    if (bad.length > 0)
      throw new KilnError(
        'unverified',
        `${bad.length} of ${verdicts.length} modules did not pass; kiln install puts them right`,
      );
  },
};

export const INSTALL_COMMANDS: readonly Command[] = [install, remove, status, verify];
