import { readdir, readFile, readlink } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { digestOf, type Digest } from '../services/core/digest.ts';
import { KilnError } from '../services/core/errors.ts';
import { readModuleFile } from '../services/core/module-file.ts';
import { compareModuleVersions, isKeptInTree } from '../services/core/module-version.ts';
import type { Fetched } from './fetch.ts';
import { modulesDirectory, type Host } from './host.ts';
import { compressModule, inTree, moduleName, readModule } from './kernel-modules.ts';
import { noReceipt, readReceipt, receiptChange, type Receipt } from './receipts.ts';
import type { Change } from './transaction.ts';

/** Where modules go below `/lib/modules/RELEASE`: depmod prefers `updates/` over what came with the kernel. */
export const INSTALL_DIRECTORY = 'updates/kiln';
/** Where links to another kernel's modules go, as on Enterprise Linux. */
const LINK_DIRECTORY = 'weak-updates/kiln';
/** Where modules lie that were moved aside, below the host's root. */
const DISPLACED = 'var/lib/kiln/displaced';

/** What must change for one source on one kernel, and the receipt that then stands. */
export interface Plan {
  readonly changes: readonly Change[];
  readonly receipt: Receipt;
}

const inModules = (release: string, path: string): string => `lib/modules/${release}/${path}`;

/** Lays a verified build down. Throws `in-tree` where the kernel's own module is the same or newer, `conflict` where another source has the place. */
export const planInstall = async (
  host: Host,
  { build, modules, isSigned, provenance }: Fetched,
  given: {
    readonly server: string;
    readonly signer: string | null;
    readonly force: boolean;
    readonly receipts: readonly Receipt[];
  },
): Promise<Plan> => {
  const { release } = build.kernel;
  await modulesDirectory(host, release);
  const own = await inTree(host, release);
  const laid: Receipt['modules'] = [];
  const changes: Change[] = [];
  for (const { name, modname, bytes } of modules) {
    if (!given.force) await preferOwn(host, release, await own.find(modname), modname, bytes);
    const compressed = await compressModule(bytes, own.suffix);
    const path = `${INSTALL_DIRECTORY}/${name}.ko${compressed === null ? '' : own.suffix}`;
    const file = compressed ?? bytes;
    changes.push({ path: inModules(release, path), to: file });
    const { unsigned = digestOf(bytes) } =
      build.modules.find((module) => module.name === name) ?? {};
    laid.push({ name, modname, path, digest: digestOf(file), module: digestOf(bytes), unsigned });
  }
  refuseTaken(laid, build.source.name, release, given.receipts);
  const before = await readReceipt(host, release, build.source.name).catch(() => null);
  const displaced = await displacedBy(host, release, laid, before, given.receipts);
  const receipt: Receipt = {
    name: build.source.name,
    version: build.source.version,
    release,
    arch: build.kernel.arch,
    vermagic: build.kernel.vermagic,
    build: build.id,
    fingerprint: build.fingerprint,
    inputs: build.inputs,
    toolchain: build.toolchain,
    server: given.server,
    signer: isSigned ? given.signer : null,
    provenance,
    linkedFrom: null,
    provenWith: null,
    modules: laid,
    displaced: displaced.list,
    installedAt: Date.now(),
  };
  const kept = new Set(laid.map(({ path }) => path));
  const gone = before === null ? [] : before.modules.filter(({ path }) => !kept.has(path));
  return {
    receipt,
    changes: [
      ...displaced.changes,
      ...gone.map(({ path }): Change => ({ path: inModules(release, path), to: null })),
      ...changes,
      receiptChange(receipt),
    ],
  };
};

/** Links a kernel's modules to those of another one, which were proven to fit. */
export const planLink = (origin: Receipt, release: string, provenWith: Digest): Plan => {
  const modules = origin.modules.map((module) => ({
    ...module,
    path: `${LINK_DIRECTORY}/${basename(module.path)}`,
  }));
  const receipt: Receipt = {
    ...origin,
    release,
    modules,
    linkedFrom: origin.release,
    provenWith,
    displaced: [],
    installedAt: Date.now(),
  };
  const links = origin.modules.map(({ path }, index): Change => {
    const at = inModules(release, modules[index]?.path ?? '');
    const to = inModules(origin.release, path);
    return { path: at, to: { link: relative(dirname(at), to) } };
  });
  return { receipt, changes: [...links, receiptChange(receipt)] };
};

/**
 * Takes a source's modules away, and the links that lead to them; what had been moved aside for them goes back.
 * A file that somebody else has changed since is left alone.
 */
export const planRemove = async (
  host: Host,
  receipt: Receipt,
  receipts: readonly Receipt[],
): Promise<readonly Change[]> => {
  const { name, release } = receipt;
  const changes: Change[] = [];
  for (const module of receipt.modules) {
    const path = inModules(release, module.path);
    if (await isOurs(join(host.root, path), receipt, module.digest))
      changes.push({ path, to: null });
  }
  for (const { path, kept } of receipt.displaced) {
    const bytes = await readFile(join(host.root, kept)).catch(() => null);
    if (bytes === null) continue;
    changes.push({ path: inModules(release, path), to: bytes }, { path: kept, to: null });
  }
  const links = receipts.filter((each) => each.name === name && each.linkedFrom === release);
  for (const link of links) changes.push(...(await planRemove(host, link, [])));
  return [...changes, noReceipt(receipt)];
};

/** Kernels whose indexes a plan's changes concern. */
export const releasesOf = (changes: readonly Change[]): readonly string[] => [
  ...new Set(
    changes.flatMap(({ path }) => {
      const [, release] = /^lib\/modules\/([^/]+)\//.exec(path) ?? [];
      return release === undefined ? [] : [release];
    }),
  ),
];

/** Whether a file still is what was installed. */
const isOurs = async (path: string, receipt: Receipt, digest: Digest): Promise<boolean> => {
  if (receipt.linkedFrom !== null) return (await readlink(path).catch(() => null)) !== null;
  const bytes = await readFile(path).catch(() => null);
  return bytes !== null && digestOf(bytes) === digest;
};

/** The kernel's own module wins where it is the same or newer, as with DKMS. */
const preferOwn = async (
  host: Host,
  release: string,
  path: string | null,
  name: string,
  bytes: Buffer,
): Promise<void> => {
  if (path === null) return;
  const own = readModuleFile(await readModule(join(host.root, inModules(release, path))));
  const order = compareModuleVersions(own.modinfo, readModuleFile(bytes).modinfo);
  if (!isKeptInTree(order)) return;
  throw new KilnError(
    'in-tree',
    `kernel ${release} has ${name} itself, in ${order === 'same' ? 'the same' : 'a newer'} version; it stays in use (--force installs ours)`,
  );
};

/** Two sources may make a module of one name; the second may not take the first's place unseen. */
const refuseTaken = (
  laid: Receipt['modules'],
  name: string,
  release: string,
  receipts: readonly Receipt[],
): void => {
  const names = new Set(laid.map((module) => module.name));
  for (const other of receipts) {
    if (other.release !== release || other.name === name) continue;
    const taken = other.modules.find((module) => names.has(module.name));
    if (taken === undefined) continue;
    throw new KilnError(
      'install-failed',
      `${taken.name}.ko is already installed from ${other.name}/${other.version}; remove that first (kiln remove ${other.name} -k ${other.release})`,
    );
  }
};

/** Directories that depmod prefers to the kernel's own modules: there may be one of the same name that is not ours. */
const RIVALS = ['updates', 'extra', 'weak-updates'];
const RIVAL_LIMIT = 5000;

const displacedBy = async (
  host: Host,
  release: string,
  laid: Receipt['modules'],
  before: Receipt | null,
  receipts: readonly Receipt[],
): Promise<{ readonly list: Receipt['displaced']; readonly changes: readonly Change[] }> => {
  const names = new Set(laid.map(({ modname }) => moduleName(modname)));
  const ours = new Set(
    receipts
      .filter((each) => each.release === release)
      .flatMap((each) => each.modules.map(({ path }) => path)),
  );
  const list: Receipt['displaced'] = [...(before?.displaced ?? [])];
  const changes: Change[] = [];
  for (const directory of RIVALS) {
    const home = join(host.root, inModules(release, directory));
    const files = await readdir(home, { recursive: true }).catch(() => []);
    for (const file of files.slice(0, RIVAL_LIMIT)) {
      const path = `${directory}/${file}`;
      if (!/\.ko(\.gz|\.xz|\.zst)?$/.test(file) || !names.has(moduleName(file))) continue;
      if (ours.has(path) || path.startsWith(`${INSTALL_DIRECTORY}/`)) continue;
      const bytes = await readFile(join(home, file)).catch(() => null);
      if (bytes === null) continue;
      const kept = `${DISPLACED}/${release}/${path}`;
      list.push({ path, kept });
      changes.push({ path: kept, to: bytes }, { path: inModules(release, path), to: null });
    }
  }
  return { list, changes };
};
