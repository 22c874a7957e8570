import { basename, dirname, join, relative } from 'node:path';
import { digestOf, type Digest } from '../../services/core/digest.ts';
import { KilnError } from '../../services/core/errors.ts';
import { moduleNameOf } from '../../services/core/module/module-name.ts';
import { readModuleFile } from '../../services/core/module/module-file.ts';
import { compareModuleVersions, isKeptInTree } from '../../services/core/module/module-version.ts';
import type { Fetched } from './fetch.ts';
import { firmwareGone, layFiles, linkFiles } from './host-files.ts';
import { displacedBy } from '../installed/displaced.ts';
import { inModules, modulesDirectory, type Host } from '../host/host.ts';
import { compressModule, inTree, readModule } from '../host/kernel-modules.ts';
import {
  INSTALL_DIRECTORY,
  LINK_DIRECTORY,
  receiptChange,
  type Receipt,
} from '../installed/receipts.ts';
import type { Change } from '../transaction/change.ts';

/** The changes for one source on one kernel, and the receipt that stands afterwards. */
export interface Plan {
  readonly changes: readonly Change[];
  readonly receipt: Receipt;
}

/** The terms that a plan is made by. */
export interface PlanTerms {
  readonly server: string;
  readonly signer: string | null;
  readonly force: boolean;
  /** Whether modules of the same names that are moved aside come back when these are removed. */
  readonly keepDisplaced: boolean;
  readonly receipts: readonly Receipt[];
}

/** Plans the installation of a verified build; `null` where nothing of it is to be laid down. */
export type Planner = (host: Host, fetched: Fetched, terms: PlanTerms) => Promise<Plan | null>;

/**
 * The plan that lays a verified build down, except for modules that the kernel itself has in the same or a newer version. Throws `in-tree`
 * where that leaves none, `install-failed` where another source has the place.
 */
export const planInstall = async (
  host: Host,
  fetched: Fetched,
  terms: PlanTerms,
): Promise<Plan> => {
  const { build, modules } = fetched;
  const { release } = build.kernel;
  const { laid, changes } = await layOut(host, build, modules, terms.force);
  refuseTaken(laid, build.source.name, release, terms.receipts);
  const before = standingOf(terms.receipts, build.source.name, release);
  const displaced = await displacedBy(host, release, laid, before, terms.receipts);
  const brought = await layFiles(host, fetched, terms.receipts);
  const receipt = receiptFor(fetched, terms, {
    laid,
    files: brought.files,
    displaced: terms.keepDisplaced ? displaced.list : (before?.displaced ?? []),
  });
  return {
    receipt,
    changes: [
      ...displaced.changes.filter(({ to }) => terms.keepDisplaced || to === null),
      ...gone(before, laid),
      ...firmwareGone(before, brought.files),
      ...changes,
      ...brought.changes,
      receiptChange(receipt),
    ],
  };
};

/** The receipt of a build whose modules are laid down. */
export const receiptFor = (
  { build, isSigned, provenance }: Fetched,
  terms: Pick<PlanTerms, 'server' | 'signer'>,
  {
    laid,
    files,
    displaced,
  }: {
    readonly laid: Receipt['modules'];
    readonly files: Receipt['files'];
    readonly displaced: Receipt['displaced'];
  },
): Receipt => ({
  name: build.source.name,
  version: build.source.version,
  release: build.kernel.release,
  arch: build.kernel.arch,
  vermagic: build.kernel.vermagic,
  build: build.id,
  fingerprint: build.fingerprint,
  inputs: build.inputs,
  toolchain: build.toolchain,
  server: terms.server,
  signer: isSigned ? terms.signer : null,
  provenance,
  mayLink: build.recipe?.['mayLink'] !== false,
  linkedFrom: null,
  provenWith: null,
  modules: laid,
  files,
  displaced,
  dkmsTree: null,
  installedAt: Date.now(),
});

/** The files of a build's modules, and the changes that write them. Throws `in-tree` where the kernel's own are preferred to all of them. */
const layOut = async (
  host: Host,
  build: Fetched['build'],
  modules: Fetched['modules'],
  force: boolean,
): Promise<{ readonly laid: Receipt['modules']; readonly changes: readonly Change[] }> => {
  const { release } = build.kernel;
  await modulesDirectory(host, release);
  const own = await inTree(host, release);
  const laid: Receipt['modules'] = [];
  const changes: Change[] = [];
  const kept: KilnError[] = [];
  for (const { name, modname, bytes } of modules) {
    const better = force
      ? null
      : await preferOwn(host, release, await own.find(modname), modname, bytes);
    if (better !== null) {
      kept.push(better);
      continue;
    }
    const compressed = await compressModule(bytes, own.suffix);
    const path = `${INSTALL_DIRECTORY}/${name}.ko${compressed === null ? '' : own.suffix}`;
    const file = compressed ?? bytes;
    changes.push({ path: inModules(release, path), to: file });
    const { unsigned = digestOf(bytes) } =
      build.modules.find((module) => module.name === name) ?? {};
    laid.push({ name, modname, path, digest: digestOf(file), module: digestOf(bytes), unsigned });
  }
  const [reason] = kept;
  if (reason !== undefined && laid.length === 0) throw reason;
  return { laid, changes };
};

/** The receipt of a source on a kernel, or `null`. */
export const standingOf = (
  receipts: readonly Receipt[],
  name: string,
  release: string,
): Receipt | null =>
  receipts.find((each) => each.name === name && each.release === release) ?? null;

/** The changes that remove files of the former receipt which the new one does not have. */
export const gone = (before: Receipt | null, laid: Receipt['modules']): readonly Change[] => {
  const kept = new Set(laid.map(({ path }) => path));
  return (before?.modules ?? []).flatMap(({ path }): readonly Change[] =>
    before === null || kept.has(path) ? [] : [{ path: inModules(before.release, path), to: null }],
  );
};

/** The plan that links modules of another kernel which were proven to fit. Throws `install-failed` where another source has the place. */
export const planLink = (
  origin: Receipt,
  release: string,
  provenWith: Digest,
  receipts: readonly Receipt[],
): Plan => {
  const modules = origin.modules.map((module) => ({
    ...module,
    path: `${LINK_DIRECTORY}/${basename(module.path)}`,
  }));
  refuseTaken(modules, origin.name, release, receipts);
  const before = standingOf(receipts, origin.name, release);
  const brought = linkFiles(origin, release);
  const receipt: Receipt = {
    ...origin,
    release,
    modules,
    files: brought.files,
    linkedFrom: origin.release,
    provenWith,
    displaced: before?.displaced ?? [],
    installedAt: Date.now(),
  };
  const links = origin.modules.map(({ path }, index): Change => {
    const at = inModules(release, modules[index]?.path ?? '');
    const to = inModules(origin.release, path);
    return { path: at, to: { link: relative(dirname(at), to) } };
  });
  return {
    receipt,
    changes: [
      ...gone(before, modules),
      ...firmwareGone(before, brought.files),
      ...links,
      ...brought.changes,
      receiptChange(receipt),
    ],
  };
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

/** The kernel's own module wins where it is the same or newer, as with DKMS. */
const preferOwn = async (
  host: Host,
  release: string,
  path: string | null,
  name: string,
  bytes: Buffer,
): Promise<KilnError | null> => {
  if (path === null) return null;
  const own = readModuleFile(await readModule(join(host.root, inModules(release, path))));
  const order = compareModuleVersions(own.modinfo, readModuleFile(bytes).modinfo);
  if (!isKeptInTree(order)) return null;
  return new KilnError(
    'in-tree',
    `kernel ${release} has ${name} itself, in ${order === 'same' ? 'the same' : 'a newer'} version; it stays in use (--force installs ours)`,
  );
};

/** Throws `install-failed` where another source has installed a module of the same name (`-` and `_` are one letter): it is not silently replaced. */
const refuseTaken = (
  laid: Receipt['modules'],
  name: string,
  release: string,
  receipts: readonly Receipt[],
): void => {
  const namesOf = ({ name: file, modname }: Receipt['modules'][number]): readonly string[] =>
    [file, modname].map(moduleNameOf);
  const names = new Set(laid.flatMap(namesOf));
  for (const other of receipts) {
    if (other.release !== release || other.name === name) continue;
    const taken = other.modules.find((module) => namesOf(module).some((each) => names.has(each)));
    if (taken === undefined) continue;
    throw new KilnError(
      'install-failed',
      `${taken.name}.ko is already installed from ${other.name}/${other.version}; remove that first (kiln remove ${other.name} -k ${other.release})`,
    );
  }
};
