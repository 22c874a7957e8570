import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { digestOf, type Digest } from '../../services/core/digest.ts';
import { KilnError } from '../../services/core/errors.ts';
import { parseSymvers, SYMVERS_LIMIT, type Symvers } from '../../services/core/module/kabi.ts';
import {
  flavourOf,
  parseExportTerms,
  whyNoWeakUpdate,
} from '../../services/core/module/weak-updates.ts';
import {
  modinfoValue,
  readModuleFile,
  type ModuleFile,
} from '../../services/core/module/module-file.ts';
import type { CreateBuild } from '../../services/core/protocol/build.ts';
import { hostKernel, type Host } from '../host/host.ts';
import { readHostFile } from '../host/host-files.ts';
import { inTree, readModule } from '../host/kernel-modules.ts';
import { listReceipts, readReceipt, type Receipt } from './receipts.ts';
import type { Service } from '../wire/service.ts';

/** The symbols that a kernel exports, from its distribution's files or from the service. */
export interface KernelSymbols {
  readonly text: string;
  readonly digest: Digest;
}

/** Places of a kernel's `Module.symvers` on a host: Enterprise Linux's, then the headers'. */
const places = (release: string): readonly string[] => [
  `lib/modules/${release}/symvers.gz`,
  `boot/symvers-${release}.gz`,
  `lib/modules/${release}/build/Module.symvers`,
];

/** A kernel's `Module.symvers`: the host's own, else that of the service's headers of this very kernel; `null` if neither is there. */
export const kernelSymbols = async (
  host: Host,
  service: Pick<Service, 'symvers'>,
  release: string,
): Promise<KernelSymbols | null> => {
  const own = await hostSymbols(host, release);
  if (own !== null) return own;
  const text = await service.symvers(await hostKernel(host, release)).catch(onlyOffline);
  return text === null ? null : { text, digest: digestOf(text) };
};

/** A kernel's `Module.symvers` as the host itself has it, or `null`. */
export const hostSymbols = async (host: Host, release: string): Promise<KernelSymbols | null> => {
  for (const place of places(release)) {
    const bytes = await readHostFile(host, place, SYMVERS_LIMIT);
    const text = bytes === null || bytes.length === 0 ? null : unpackedSymvers(place, bytes);
    if (text !== null) return { text, digest: digestOf(text) };
  }
  return null;
};

/** The text of a `Module.symvers` that may be compressed; `null` where it is damaged or too large. */
const unpackedSymvers = (path: string, bytes: Buffer): string | null => {
  try {
    return path.endsWith('.gz')
      ? gunzipSync(bytes, { maxOutputLength: SYMVERS_LIMIT }).toString('latin1')
      : bytes.toString('latin1');
  } catch {
    return null;
  }
};

/** Takes an unreachable service for one without symbols: there is no proof then, and the request for a build that follows tells why. */
const onlyOffline = (error: unknown): null => {
  if (error instanceof KilnError && error.code === 'unreachable') return null;
  throw error;
};

/**
 * A module set of another kernel of this host, of the same flavour, that is proven to fit this one: it is of the source that would be
 * built, and all symbols that it imports are here with the same CRCs. `null` where there is none. `unsure`: kernels that are left out.
 */
export const findLink = async (
  host: Host,
  service: Pick<Service, 'symvers' | 'resolve'>,
  {
    name,
    release,
    request,
  }: { readonly name: string; readonly release: string; readonly request: CreateBuild },
  unsure: readonly string[],
): Promise<{ readonly origin: Receipt; readonly provenWith: Digest } | null> => {
  const { receipts } = await listReceipts(host);
  const isHere = receipts.some(
    (each) => each.name === name && each.release === release && each.linkedFrom === null,
  );
  const origins = receipts.filter(
    (each) =>
      each.name === name &&
      each.release !== release &&
      each.linkedFrom === null &&
      each.mayLink &&
      !unsure.includes(each.release) &&
      flavourOf(each.release) === flavourOf(release) &&
      isVersion(each, request.source),
  );
  if (isHere || origins.length === 0) return null;
  // The proof holds without the service, too. Whether the set is stale shows when the service answers again.
  const [view] = await service.resolve([request]).catch((error: unknown) => {
    if (error instanceof KilnError) return [];
    throw error;
  });
  const newest = view === undefined || 'problem' in view ? null : view.source;
  const current = origins.filter((each) => newest === null || isSource(each, newest.digest));
  const symbols = current.length === 0 ? null : await kernelSymbols(host, service, release);
  if (symbols === null) return null;
  for (const origin of current.toReversed())
    if ((await whyNotLinked(host, origin, release, symbols)) === null)
      return { origin, provenWith: symbols.digest };
  return null;
};

const isVersion = ({ version }: Receipt, asked: CreateBuild['source']): boolean =>
  !('version' in asked) || asked.version === undefined || asked.version === version;

const isSource = ({ inputs }: Receipt, digest: Digest): boolean =>
  (inputs['source'] as { readonly digest?: unknown } | undefined)?.digest === digest;

/** Why a module set may not be linked to a kernel, in words; `null` where it is proven that it may. */
export const whyNotLinked = async (
  host: Host,
  origin: Receipt,
  release: string,
  symbols: KernelSymbols,
): Promise<readonly string[] | null> => {
  const came = await inTree(host, release);
  for (const { modname } of origin.modules)
    if ((await came.find(modname)) !== null) return [`it has ${modname} itself`];
  const modules = await Promise.all(
    origin.modules.map(async ({ path }) =>
      readModuleFile(await readModule(placeOf(host, origin.release, path))),
    ),
  );
  const own = await came.any();
  if (own === null) return ['it has no module of its own to compare with'];
  const pattern = readModuleFile(await readModule(placeOf(host, release, own)));
  if (pattern.arch === null) return ['its architecture is not known'];
  const target = {
    release,
    arch: pattern.arch,
    vermagic: modinfoValue(pattern, 'vermagic') ?? '',
    exporters: [parseSymvers(symbols.text), siblingSymbols(modules)],
    terms: parseExportTerms(symbols.text),
  };
  for (const module of modules) {
    const why = whyNoWeakUpdate(module, target);
    if (why !== null) return why;
  }
  return null;
};

const placeOf = (host: Host, release: string, path: string): string =>
  join(host.root, 'lib/modules', release, path);

/** The symbols that modules of one source export to each other. They are linked together, so each finds what it was built against. */
const siblingSymbols = (modules: readonly ModuleFile[]): Symvers => {
  const exported = new Set(modules.flatMap((module) => module.exports));
  return new Map(
    modules.flatMap(({ versions }) => [...versions].filter(([symbol]) => exported.has(symbol))),
  );
};

/** Takes a proof that failed to be made for none: the module is then built instead. */
export const asUnproven = (error: unknown): null => {
  if (error instanceof KilnError && error.code !== 'build-cancelled') return null;
  throw error;
};

/** Whether a linked module set still fits its kernel: proven anew where the kernel's symbols have changed since. */
export const isStillProven = async (
  host: Host,
  service: Pick<Service, 'symvers'>,
  receipt: Receipt,
): Promise<boolean> => {
  const symbols = await kernelSymbols(host, service, receipt.release);
  if (symbols === null || symbols.digest === receipt.provenWith) return symbols !== null;
  const origin = await readReceipt(host, receipt.linkedFrom ?? '', receipt.name);
  if (origin === null) return false;
  return (await whyNotLinked(host, origin, receipt.release, symbols)) === null;
};
