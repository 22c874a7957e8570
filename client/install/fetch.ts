import { isUtf8 } from 'node:buffer';
import type { X509Certificate } from 'node:crypto';
import { z } from 'zod';
import {
  dependenciesOf,
  mustBeAttested,
  readAttested,
} from '../../services/core/provenance/attested.ts';
import { canonicalJson, type Canonical } from '../../services/core/format/canonical-json.ts';
import { digestOf, type Digest } from '../../services/core/digest.ts';
import { KilnError } from '../../services/core/errors.ts';
import { buildIdOf } from '../../services/core/build/fingerprint.ts';
import { hostFiles } from '../../services/core/schemas/domain.ts';
import { firmwarePath, hostFileLimit } from '../../services/core/source/host-files.ts';
import type { BuildView, CreateBuild } from '../../services/core/protocol/build.ts';
import type { Supply } from './supply.ts';
import type { InstallTerms } from './wish.ts';
import { certificateId, verifyBytes } from '../installed/verify.ts';

/** A module that was fetched and has passed verification. */
export interface FetchedModule {
  readonly name: string;
  /** The module's own name: a source may give the file another one. */
  readonly modname: string;
  readonly bytes: Buffer;
}

/** A file that a source brings beside its modules, for a place on hosts. */
export interface FetchedFile {
  readonly place: string;
  readonly bytes: Buffer;
}

/** A build whose modules are here and verified: digests, signatures, provenance, names, vermagic. */
export interface Fetched {
  readonly build: BuildView;
  readonly modules: readonly FetchedModule[];
  /** None of a build that is not signed: nobody vouches for them. */
  readonly files: readonly FetchedFile[];
  readonly isSigned: boolean;
  /** Whether it had been built before it was asked for. */
  readonly isCached: boolean;
  /** The DSSE envelope, if one was signed. */
  readonly provenance: string | null;
}

/** The most layers of builds that are built against others: as many as the service makes. */
const MAX_DEPTH = 8;
const MAX_BUILDS = 64;
const MODULE_NAME = /^[A-Za-z0-9_-]{1,64}$/;

const bad = (message: string): KilnError => new KilnError('unverified', message);

/**
 * Fetches a build after those it was built against, which come first in the result. The service's own words are checked against the
 * signed provenance. Nothing on the host changes. Throws `unverified` where something was not asked for, was not signed or is missing.
 * `certificate` is `null` where unsigned modules are accepted and no certificate is pinned.
 */
export const fetchBuilds = async (
  supply: Supply,
  request: CreateBuild,
  terms: SigningTerms,
): Promise<readonly Fetched[]> => {
  const fetched = new Map<string, Fetched>();
  const take = async (
    build: BuildView,
    isCached: boolean,
    above: readonly string[],
  ): Promise<void> => {
    if (above.includes(build.id) || above.length > MAX_DEPTH || fetched.size >= MAX_BUILDS)
      throw bad(`the build ${build.id} was sent with dependencies without end`);
    const certificate = certificateFor(build, terms);
    const modules = await fetchModules(supply, build, certificate);
    const provenance = certificate === null ? null : await readSigned(supply, build, certificate);
    const { dependencies, files: brought } = mustBeCovered(build);
    const files = certificate === null ? [] : await fetchFiles(supply, brought);
    for (const { name, version, fingerprint } of dependencies) {
      const id = buildIdOf(fingerprint);
      if (fetched.has(id)) continue;
      const dependency = await supply.dependency(id);
      const { source, kernel } = dependency;
      if (
        dependency.id !== id ||
        dependency.fingerprint !== fingerprint ||
        source.name !== name ||
        source.version !== version ||
        kernel.digest !== build.kernel.digest
      )
        throw bad(`another build than ${id} was sent for the dependency ${name}/${version}`);
      await take(dependency, isCached, [...above, build.id]);
    }
    const isSigned = certificate !== null;
    fetched.set(build.id, { build, modules, files, isSigned, provenance, isCached });
  };
  const { build, isCached } = await supply.build(request);
  mustBeAsked(build, request);
  await take(build, isCached, []);
  return [...fetched.values()];
};

/** Throws where a build is of another source or for another kernel than was asked for. */
const mustBeAsked = ({ source, kernel }: BuildView, request: CreateBuild): void => {
  const isSource =
    'digest' in request.source
      ? source.digest === request.source.digest
      : source.name === request.source.name &&
        (request.source.version === undefined || source.version === request.source.version);
  const isKernel =
    'digest' in request.kernel
      ? kernel.digest === request.kernel.digest
      : kernel.release === request.kernel.release;
  if (!isSource || !isKernel)
    throw bad(
      `${source.name}/${source.version} for ${kernel.release} was sent, which was not asked for`,
    );
};

const Said = z.object({
  source: z.object({ digest: z.string(), name: z.string(), version: z.string() }),
  kernel: z.object({ tree: z.string(), release: z.string() }),
  dependencies: z.array(
    z.object({ name: z.string(), version: z.string(), fingerprint: z.custom<Digest>() }),
  ),
  files: hostFiles.default({}),
});
type Said = z.output<typeof Said>;

/** What a build is built against, and the files that its source brings. Throws where the build's facts are not those that its fingerprint, which is signed, covers. */
const mustBeCovered = ({
  fingerprint,
  inputs,
  source,
  kernel,
  dependencies,
}: BuildView): Pick<Said, 'dependencies' | 'files'> => {
  const said = Said.safeParse(inputs).data;
  const isCovered =
    said?.source.digest === source.digest &&
    said.source.name === source.name &&
    said.source.version === source.version &&
    said.kernel.tree === kernel.digest &&
    said.kernel.release === kernel.release &&
    dependenciesOf(said).join() === dependencies.toSorted().join();
  if (!isCovered || fingerprintOf(inputs) !== fingerprint)
    throw bad('the build was sent with other inputs than its fingerprint covers');
  return said;
};

const fingerprintOf = (inputs: BuildView['inputs']): string | null => {
  try {
    return digestOf(canonicalJson(inputs as Canonical));
  } catch {
    return null;
  }
};

/** The terms of an installation that say how its modules must be signed. */
type SigningTerms = Pick<InstallTerms, 'certificate' | 'allowUnsigned'>;

/** The certificate that must have signed a build; `null` where the build is unsigned and may be. Throws `unverified`. */
const certificateFor = (
  { signature }: BuildView,
  { certificate, allowUnsigned }: SigningTerms,
): X509Certificate | null => {
  if (signature?.kind !== 'signed') {
    if (allowUnsigned) return null;
    throw new KilnError(
      'unverified',
      `the module was built but not signed: ${signature?.reason ?? 'it is not signed'}; --allow-unsigned, or allow-unsigned = yes in the configuration, installs it all the same`,
    );
  }
  if (certificate !== null) return certificate;
  throw new KilnError(
    'unverified',
    'no certificate is pinned, so no signature can be checked; run kiln setup URL, or give --certificate FILE',
  );
};

/** The envelope of a signed build's provenance. Throws `unverified` unless the provenance and the service say the same of the build. */
const readSigned = async (
  supply: Supply,
  build: BuildView,
  certificate: X509Certificate,
): Promise<string> => {
  if (build.attestation === null)
    throw bad('the build is signed, and its provenance was not sent with it');
  const provenance = (await supply.artifact(build.attestation)).toString('utf8');
  mustBeAttested(build, readAttested(provenance, certificate));
  return provenance;
};

/** The error that refused a module. Where the service says that it signs with another key than is pinned, it tells how to pin the new one. */
const sayNewKey = (
  error: unknown,
  { signature }: BuildView,
  certificate: X509Certificate | null,
  server: string,
): unknown => {
  if (!(error instanceof KilnError) || certificate === null || signature?.kind !== 'signed')
    return error;
  const { key } = signature;
  const pinned = certificateId(certificate);
  if (key === pinned || !/^[0-9a-f]{64}$/.test(key)) return error;
  return bad(
    `the module was signed with another key than the pinned certificate’s (SHA-256 ${pinned}): the service signs with SHA-256 ${key}, it says; where the admin says the same, run kiln setup ${server} --replace-certificate --fingerprint ${key}, then this again`,
  );
};

/** The files that a source brings, whose digests its signed provenance covers. Throws `unverified` for settings that are no text. */
const fetchFiles = async (
  supply: Supply,
  files: Said['files'],
): Promise<readonly FetchedFile[]> => {
  const fetched: FetchedFile[] = [];
  for (const [place, digest] of Object.entries(files)) {
    const bytes = await supply.artifact(digest);
    const isSetting = firmwarePath(place) === null;
    if (bytes.length > hostFileLimit(place) || (isSetting && !isUtf8(bytes)))
      throw bad(`the service sent bytes for ${place} that can be no such file`);
    fetched.push({ place, bytes });
  }
  return fetched;
};

/** A build's modules, verified: signed by the certificate's key, or unsigned where `certificate` is `null`. */
const fetchModules = async (
  supply: Supply,
  build: BuildView,
  certificate: X509Certificate | null,
): Promise<readonly FetchedModule[]> => {
  const { release, arch, vermagic } = build.kernel;
  const modules: FetchedModule[] = [];
  for (const { name, signed, unsigned, modinfo } of build.modules) {
    if (!MODULE_NAME.test(name)) throw bad('the service sent a module with an impossible name');
    const modname = modinfo.find(([key]) => key === 'name')?.[1] ?? name;
    if (!MODULE_NAME.test(modname) || modules.some((each) => each.name === name))
      throw bad(`the service sent a module ${name} with an impossible name, or twice`);
    const bytes = await supply.artifact(signed ?? unsigned);
    try {
      verifyBytes(bytes, { name: modname, release, arch, vermagic }, certificate);
    } catch (error) {
      throw sayNewKey(error, build, certificate, supply.name);
    }
    modules.push({ name, modname, bytes });
  }
  if (modules.length === 0) throw bad('the build has no modules');
  return modules;
};
