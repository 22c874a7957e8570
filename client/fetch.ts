import type { X509Certificate } from 'node:crypto';
import { verifyProvenance } from '../services/core/attestation.ts';
import { KilnError } from '../services/core/errors.ts';
import type { BuildView, CreateBuild } from '../services/core/protocol.ts';
import type { Supply } from './supply.ts';
import { verifyBytes } from './verify.ts';

/** A module that came and passed. */
export interface FetchedModule {
  readonly name: string;
  /** What it calls itself: a source may give the file another name. */
  readonly modname: string;
  readonly bytes: Buffer;
}

/** A build whose modules are here and verified: digests, signatures, provenance, names, vermagic. */
export interface Fetched {
  readonly build: BuildView;
  readonly modules: readonly FetchedModule[];
  readonly isSigned: boolean;
  /** Whether it had been built before it was asked for. */
  readonly isCached: boolean;
  /** The DSSE envelope, if one was signed. */
  readonly provenance: string | null;
}

/**
 * Gets a build and those it was built against, which come first. Nothing on the host changes.
 * `certificate` is `null` where unsigned modules are wanted, too, and none is pinned.
 */
export const fetchBuilds = async (
  supply: Supply,
  request: CreateBuild,
  trust: { readonly certificate: X509Certificate | null; readonly allowUnsigned: boolean },
): Promise<readonly Fetched[]> => {
  const fetched = new Map<string, Fetched>();
  const take = async (build: BuildView, isCached: boolean): Promise<void> => {
    for (const id of build.dependencies)
      if (!fetched.has(id)) await take(await supply.dependency(id), isCached);
    fetched.set(build.id, { ...(await fetchOne(supply, build, trust)), isCached });
  };
  const { build, isCached } = await supply.build(request);
  await take(build, isCached);
  return [...fetched.values()];
};

const fetchOne = async (
  supply: Supply,
  build: BuildView,
  {
    certificate,
    allowUnsigned,
  }: { readonly certificate: X509Certificate | null; readonly allowUnsigned: boolean },
): Promise<Omit<Fetched, 'isCached'>> => {
  const isSigned = build.signature?.kind === 'signed';
  if (!isSigned && !allowUnsigned) {
    const reason =
      build.signature?.kind === 'unsigned' ? build.signature.reason : 'it is not signed';
    throw new KilnError(
      'unverified',
      `the module was built but not signed: ${reason}; --allow-unsigned installs it all the same`,
    );
  }
  const pinned = isSigned ? certificate : null;
  const { release, arch, vermagic } = build.kernel;
  const modules: FetchedModule[] = [];
  for (const { name, signed, unsigned, modinfo } of build.modules) {
    if (!/^[A-Za-z0-9_-]{1,64}$/.test(name))
      throw new KilnError('unverified', 'the service sent a module with an impossible name');
    const modname = modinfo.find(([key]) => key === 'name')?.[1] ?? name;
    const bytes = await supply.artifact(signed ?? unsigned);
    verifyBytes(bytes, { name: modname, release, arch, vermagic }, pinned);
    modules.push({ name, modname, bytes });
  }
  if (modules.length === 0) throw new KilnError('unverified', 'the build has no modules');
  let provenance: string | null = null;
  if (pinned !== null && build.attestation !== null) {
    provenance = (await supply.artifact(build.attestation)).toString('utf8');
    verifyProvenance(provenance, pinned, {
      fingerprint: build.fingerprint,
      modules: build.modules.map(({ name, signed, unsigned }) => ({
        name,
        digest: signed ?? unsigned,
      })),
    });
  }
  return { build, modules, isSigned, provenance };
};
