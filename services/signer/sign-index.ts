import { Readable } from 'node:stream';
import { canonicalJson } from '../core/format/canonical-json.ts';
import { digestOf, type Digest } from '../core/digest.ts';
import { KilnError } from '../core/errors.ts';
import type { IndexJob, Outcome } from '../core/jobs/jobs.ts';
import { planPackage, unpackedLimit } from '../core/packages/plan-package.ts';
import type { ModulesSubject } from '../core/packages/subject.ts';
import { dsseEnvelope, dsseMessage } from '../core/provenance/attestation.ts';
import { readAttested } from '../core/provenance/attested.ts';
import { indexOf, ownPool, withOwnPool } from '../core/repository/index-of.ts';
import { mustBeAttestedModules, mustBringSettings } from '../core/provenance/attested-packages.ts';
import { KEY_FILE, repositoryKeyStatement } from '../core/provenance/repository-key.ts';
import type {
  IndexedPackage,
  IndexFile,
  RepositoryContent,
} from '../core/repository/repository.ts';
import type { BlobInfo, Blobs } from '../storage/blobs.ts';
import { checkPackage } from '../storage/check-package.ts';
import { publicKeyOf, signDetached, signInline, type RepositoryKey } from '../storage/openpgp.ts';
import type { KabiReader } from '../storage/read-kabi.ts';
import { signRpm } from '../storage/rpm-signature.ts';
import type { SigningKey } from './key-file.ts';

const ATTESTATION_LIMIT = 64 * 1024 ** 2;

/** What repositories are signed with. */
export interface IndexDeps {
  readonly blobs: Blobs;
  /** The key that modules and provenance are signed with. */
  readonly key: SigningKey;
  readonly repositoryKey: RepositoryKey;
  /** Packages that were checked since the signer began, by what they are made of and their bytes. */
  readonly checked: Set<Digest>;
  /** Tells what modules need of a kernel. */
  readonly readKabi: KabiReader;
  /** Packages that were signed since then, by those that they were made of. */
  readonly signed: Map<Digest, BlobInfo>;
}

/**
 * Writes and signs the index of a repository. The signer writes it itself: of packages that hold what it signed as modules, and nothing
 * else. Throws `KilnError('unverified')` for any other.
 */
export const signIndex = async (
  { repository: said, generation }: IndexJob,
  deps: IndexDeps,
): Promise<Outcome> => {
  const repository = await withKabi(said, deps).catch(refuse);
  const { packages, format, suite, channel } = repository;
  const modules = packages.flatMap(({ subject }) => (subject.kind === 'modules' ? subject : []));
  for (const each of packages) await checkIndexed(each, format, modules, deps).catch(refuse);
  const files: IndexFile[] = [];
  const put = async (path: string, bytes: Buffer | string): Promise<void> => {
    files.push({ path, ...(await store(deps.blobs, bytes)) });
  };
  for (const [path, each] of ownPool(repository))
    files.push({ path, ...(await signedPackage(each, deps)) });
  const pool = new Map(files.map((file) => [file.path, file]));
  const { lists, top } = indexOf(withOwnPool(repository, pool));
  for (const [path, text] of lists) await put(path, text);
  await put(top.path, top.text);
  await put(top.signature, await signDetached(top.text, deps.repositoryKey));
  if (top.inline !== null) await put(top.inline, await signInline(top.text, deps.repositoryKey));
  await put(KEY_FILE, await stateKey(repository.validUntil, deps));
  return { kind: 'indexed', format, suite, channel, generation, files };
};

/** The content with what modules need of a kernel, read of their bytes, whatever is said of it: less would have them on kernels that they do not fit. */
const withKabi = async (
  content: RepositoryContent,
  { readKabi }: IndexDeps,
): Promise<RepositoryContent> => {
  const packages: IndexedPackage[] = [];
  for (const each of content.packages) {
    if (each.subject.kind !== 'modules') packages.push(each);
    else {
      const { kabi: _, ...subject } = each.subject;
      const read = content.format === 'kmp' ? { kabi: await readKabi(subject.modules) } : {};
      packages.push({ ...each, subject: { ...subject, ...read } });
    }
  }
  return { ...content, packages };
};

/** What no package can be made of is refused like what is not what it says: nobody asks for it who means well. */
const refuse = (error: unknown): never => {
  if (error instanceof KilnError && error.code === 'conflict')
    throw new KilnError('unverified', error.message, { cause: error });
  throw error;
};

/** What hosts that pin the certificate of modules know the repositories' key by. */
const stateKey = async (validUntil: number, { key, repositoryKey }: IndexDeps): Promise<string> => {
  const statement = repositoryKeyStatement({ key: publicKeyOf(repositoryKey), validUntil });
  return dsseEnvelope(statement, key.id, await key.sign('sha256', dsseMessage(statement)));
};

const store = (blobs: Blobs, bytes: Buffer | string): Promise<BlobInfo> => {
  const whole = Buffer.from(bytes);
  return blobs.put(Readable.from([whole], { objectMode: false }), { limit: whole.length });
};

/** A package with its own signature, stored. */
const signedPackage = async (
  { digest, size }: IndexedPackage,
  { blobs, repositoryKey, signed }: IndexDeps,
): Promise<BlobInfo> => {
  const known = signed.get(digest);
  if (known !== undefined && (await blobs.find(known.digest)) !== null) return known;
  const stored = await store(blobs, await signRpm(await blobs.read(digest, size), repositoryKey));
  signed.set(digest, stored);
  return stored;
};

const checkIndexed = async (
  { subject, digest, size }: IndexedPackage,
  format: IndexJob['repository']['format'],
  modules: readonly ModulesSubject[],
  { blobs, key: { certificate }, checked }: IndexDeps,
): Promise<void> => {
  if (subject.kind === 'settings') mustBringSettings(subject, modules);
  const checkedAs = digestOf(canonicalJson([digest, size, format, subject]));
  if (checked.has(checkedAs)) return;
  if (subject.kind === 'modules') {
    const envelope = await blobs.read(subject.attestation.digest, ATTESTATION_LIMIT);
    mustBeAttestedModules(subject, readAttested(envelope.toString('utf8'), certificate));
  }
  const limit = unpackedLimit(subject);
  // As a whole: a stream would say only at its end that it is another blob.
  const bytes = await blobs.read(digest, limit);
  if (bytes.length !== size)
    throw new KilnError('unverified', `a package is not stored as ${digest} of ${size} bytes`);
  await checkPackage(bytes, planPackage(format, subject), limit, (named) =>
    blobs.read(named, limit),
  );
  checked.add(checkedAs);
};
