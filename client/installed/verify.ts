import { createHash, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readAttested } from '../../services/core/provenance/attested.ts';
import { canonicalJson, type Canonical } from '../../services/core/format/canonical-json.ts';
import { digestOf } from '../../services/core/digest.ts';
import { KilnError } from '../../services/core/errors.ts';
import type { Arch } from '../../services/core/arch.ts';
import { checkModule, readModuleFile } from '../../services/core/module/module-file.ts';
import { splitModule, verifyModule } from '../../services/core/module/module-signature.ts';
import { inModules, type Host } from '../host/host.ts';
import { readModule } from '../host/kernel-modules.ts';
import { lookAtFiles, unattested } from './brought-files.ts';
import { moduleFile, type Receipt } from './receipts.ts';

/** The pinned certificate, from its PEM file. Throws `unverified` with what to do. */
export const readCertificate = async (path: string | null): Promise<X509Certificate> => {
  if (path === null) {
    throw new KilnError(
      'unverified',
      'no certificate is pinned, so no signature can be checked; run kiln setup URL, or give --certificate FILE',
    );
  }
  try {
    return new X509Certificate(await readFile(path));
  } catch (cause) {
    throw new KilnError(
      'unverified',
      `the pinned certificate ${path} cannot be read; run kiln setup URL`,
      { cause },
    );
  }
};

/** The id of a signer: the SHA-256 of its certificate, in hex. */
export const certificateId = (certificate: X509Certificate): string =>
  createHash('sha256').update(certificate.raw).digest('hex');

/** The facts that a module must match before it is put on a host. */
export interface Expectation {
  readonly name: string;
  readonly arch: string;
  readonly release: string;
  readonly vermagic: string;
}

/**
 * Checks a module's signature (unless `certificate` is `null`: then it must have none), its name and its vermagic.
 * Throws `unverified`.
 */
export const verifyBytes = (
  bytes: Buffer,
  expected: Expectation,
  certificate: X509Certificate | null,
): void => {
  if (expected.vermagic.split(' ')[0] !== expected.release) {
    throw new KilnError(
      'unverified',
      `the module is for kernel ${expected.vermagic.split(' ')[0] ?? ''}, not ${expected.release}`,
    );
  }
  if (certificate === null && splitModule(bytes) !== null) {
    throw new KilnError(
      'unverified',
      `module ${expected.name} is signed though it was said to be unsigned`,
    );
  }
  const unsigned = certificate === null ? bytes : verifyModule(bytes, certificate);
  checkModule(readModuleFile(unsigned), { ...expected, arch: expected.arch as Arch });
};

/** One installed file, checked. `problem` is `null` if all is well. */
export interface Verdict {
  readonly source: string;
  /** `null` for a file that came beside the modules. */
  readonly module: string | null;
  readonly release: string;
  readonly path: string;
  readonly problem: string | null;
}

/** Checks a receipt against the files on the disk: bytes, signatures, provenance. `receipts`: all of the host. The service is not asked. */
export const verifyReceipt = async (
  host: Host,
  receipt: Receipt,
  receipts: readonly Receipt[],
  certificate: () => Promise<X509Certificate>,
): Promise<readonly Verdict[]> => {
  const { name: source, release } = receipt;
  const otherKey = await problemOf(() => checkKey(receipt, certificate));
  const provenance = otherKey ?? (await problemOf(() => checkProvenance(receipt, certificate)));
  const modules = await Promise.all(
    receipt.modules.map(async (module) => {
      const path = join(host.root, inModules(release, module.path));
      const file = await moduleFile(host, release, module.path);
      const problem = await problemOf(() => checkFile(file, receipt, module, certificate));
      return { module: module.name, path, problem: otherKey ?? problem ?? provenance };
    }),
  );
  const files = (await lookAtFiles(host, receipt, receipts)).map(({ path, problem }) => ({
    module: null,
    path: join(host.root, path),
    problem: otherKey ?? (problem === null ? provenance : `it ${problem}`),
  }));
  return [...modules, ...files].map((each) => ({ source, release, ...each }));
};

const problemOf = async (check: () => Promise<void>): Promise<string | null> => {
  try {
    await check();
    return null;
  } catch (error) {
    if (error instanceof KilnError) return error.message;
    throw error;
  }
};

/** Throws `unverified` where a receipt's modules were signed with another key than is pinned now, as after a change of key. */
const checkKey = async (
  { signer, name }: Receipt,
  certificate: () => Promise<X509Certificate>,
): Promise<void> => {
  if (signer === null) return;
  const pinned = certificateId(await certificate());
  if (signer !== pinned)
    throw new KilnError(
      'unverified',
      `${name} was installed when another key (SHA-256 ${signer}) was pinned than now (SHA-256 ${pinned})`,
    );
};

const checkFile = async (
  path: string,
  receipt: Receipt,
  module: Receipt['modules'][number],
  certificate: () => Promise<X509Certificate>,
): Promise<void> => {
  const bytes = await readFile(path).catch((cause: unknown) => {
    throw new KilnError('unverified', 'the file is missing', { cause });
  });
  if (digestOf(bytes) !== module.digest)
    throw new KilnError('unverified', 'its bytes are not those that were installed');
  const unpacked = await readModule(path);
  if (digestOf(unpacked) !== module.module)
    throw new KilnError('unverified', 'its bytes are not those that the service sent');
  const expected = {
    name: module.modname,
    arch: receipt.arch,
    // A linked module is for the kernel that it was built for, and proven to fit this one.
    release: receipt.linkedFrom ?? receipt.release,
    vermagic: receipt.vermagic,
  };
  verifyBytes(unpacked, expected, receipt.signer === null ? null : await certificate());
};

const checkProvenance = async (
  receipt: Receipt,
  certificate: () => Promise<X509Certificate>,
): Promise<void> => {
  const { signer, provenance, fingerprint, modules, inputs, name, version, mayLink } = receipt;
  if (signer === null) return;
  if (provenance === null)
    throw new KilnError('unverified', 'no provenance was kept; install the module again');
  const attested = readAttested(provenance, await certificate());
  const { source } = attested.inputs;
  const isSame =
    attested.fingerprint === fingerprint &&
    digestOf(canonicalJson(inputs as Canonical)) === fingerprint &&
    source.name === name &&
    source.version === version &&
    attested.recipe.mayLink === mayLink;
  if (!isSame)
    throw new KilnError(
      'unverified',
      'its receipt says otherwise than its provenance; install the module again',
    );
  const stray = unattested(receipt, attested.inputs.files ?? {});
  if (stray !== null)
    throw new KilnError(
      'unverified',
      `the provenance does not speak of these bytes of /${stray}; install the module again`,
    );
  for (const { name: file, module } of modules)
    if (attested.modules.get(file)?.signed !== module)
      throw new KilnError(
        'unverified',
        `the provenance does not speak of these bytes of ${file}.ko; install the module again`,
      );
};
