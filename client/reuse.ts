import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { digestOf, type Digest } from '../services/core/digest.ts';
import { parseSymvers, SYMVERS_LIMIT, type Symvers } from '../services/core/kabi.ts';
import { flavourOf, parseExportTerms, whyNotReusable } from '../services/core/kabi-reuse.ts';
import { modinfoValue, readModuleFile, type ModuleFile } from '../services/core/module-file.ts';
import { kernelFacts, type Host } from './host.ts';
import { inTree, readModule } from './kernel-modules.ts';
import { listReceipts, readReceipt, type Receipt } from './receipts.ts';
import type { Service } from './service.ts';

/** What a kernel exports, as its distribution or the service has it. */
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

/** A kernel's `Module.symvers`: the host's own, else the one of the headers that the service has of this very kernel; `null` if nobody has it. */
export const kernelSymbols = async (
  host: Host,
  service: Pick<Service, 'symvers'>,
  release: string,
): Promise<KernelSymbols | null> => {
  for (const place of places(release)) {
    const path = join(host.root, place);
    const { size } = await stat(path).catch(() => ({ size: 0 }));
    if (size === 0 || size > SYMVERS_LIMIT) continue;
    const bytes = await readFile(path);
    const text = place.endsWith('.gz')
      ? gunzipSync(bytes, { maxOutputLength: SYMVERS_LIMIT }).toString('latin1')
      : bytes.toString('latin1');
    return { text, digest: digestOf(text) };
  }
  const text = await service.symvers(await kernelFacts(host, release));
  return text === null ? null : { text, digest: digestOf(text) };
};

/**
 * A module set of another kernel of this host, of the same flavour, that is proven to fit this one: all symbols that it imports are
 * there with the same CRCs. `null` where there is none.
 */
export const findLink = async (
  host: Host,
  service: Pick<Service, 'symvers'>,
  name: string,
  release: string,
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
      flavourOf(each.release) === flavourOf(release),
  );
  if (isHere || origins.length === 0) return null;
  const symbols = await kernelSymbols(host, service, release);
  if (symbols === null) return null;
  for (const origin of origins.toReversed())
    if ((await whyNotLinked(host, origin, release, symbols)) === null)
      return { origin, provenWith: symbols.digest };
  return null;
};

/** Why a module set may not be linked to a kernel, in words; `null` where it is proven that it may. */
export const whyNotLinked = async (
  host: Host,
  origin: Receipt,
  release: string,
  symbols: KernelSymbols,
): Promise<readonly string[] | null> => {
  const modules = await Promise.all(
    origin.modules.map(async ({ path }) =>
      readModuleFile(await readModule(placeOf(host, origin.release, path))),
    ),
  );
  const own = await (await inTree(host, release)).any();
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
    const why = whyNotReusable(module, target);
    if (why !== null) return why;
  }
  return null;
};

const placeOf = (host: Host, release: string, path: string): string =>
  join(host.root, 'lib/modules', release, path);

/** What modules of one source export to each other. They are linked together, so what they were built against is what they find. */
const siblingSymbols = (modules: readonly ModuleFile[]): Symvers => {
  const exported = new Set(modules.flatMap((module) => module.exports));
  return new Map(
    modules.flatMap(({ versions }) => [...versions].filter(([symbol]) => exported.has(symbol))),
  );
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
