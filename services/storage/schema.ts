import type { BuildState } from '../core/build/build-state.ts';
import type { Digest } from '../core/digest.ts';
import type { ErrorCode } from '../core/errors.ts';
import type { FingerprintInputs } from '../core/build/fingerprint.ts';
import type { BuildFailure, BuildTimings, BuiltModule, TreeOrigin } from '../core/jobs/jobs.ts';
import type { ArchiveKind } from '../core/kernel/archive.ts';
import type { Kernel } from '../core/kernel/kernel.ts';
import type { ToolchainContents } from '../core/toolchain/measurement.ts';
import type {
  PackageFormat,
  PackagePlan,
  PackageState,
  RepositoryFormat,
} from '../core/packages/plan.ts';
import type { PackageSubject } from '../core/packages/subject.ts';
import type { Channel } from '../core/repository/repository.ts';
import type { Role, Trust } from '../core/policy/policy.ts';
import type { SyncView } from '../core/protocol/archive.ts';
import type { RebuildView } from '../core/protocol/build.ts';
import type { OwnQuotas } from '../core/policy/quotas.ts';
import type { Recipe } from '../core/build/recipe.ts';
import type { Settings, Source, SourceFacts } from '../core/source/source.ts';
import type { ToolchainDescription } from '../core/toolchain/toolchain-packages.ts';
import type { ToolchainState } from '../core/toolchain/toolchain.ts';
import type { Withdrawable } from '../core/policy/withdrawal.ts';
import type { JsonText } from './json-text.ts';

/** A module as it came out of the sandbox, the same signed, a log, what builds that depend on this one need of it, its provenance, and a file for hosts. */
export type ArtifactKind = 'unsigned' | 'signed' | 'log' | 'exports' | 'attestation' | 'file';

/** A truth value: SQLite has none of its own. */
export type Flag = 0 | 1;

/**
 * The record of truth. Portable between SQLite and PostgreSQL: text ids, times as integers of milliseconds since 1970, JSON as
 * text.
 */
export interface Schema {
  tokens: {
    id: string;
    name: string;
    role: Role;
    /** SHA-256 of the secret; the secret itself is nowhere. */
    hash: string;
    /** Patterns of source names that are its own (core/policy/ownership.ts). */
    names: JsonText<readonly string[]>;
    /** The token that made it; '' for those that the service made itself. So in every table. */
    made_by: string;
    expires_at: number;
    revoked_at: number | null;
    /** What it may have of the service where that is not its role's (core/policy/quotas.ts). */
    quotas: JsonText<OwnQuotas>;
    created_at: number;
  };
  /** Bytes that tokens have sent on a day, counted from 1970. */
  sent: { token: string; day: number; bytes: number };
  sources: {
    digest: Digest;
    tree: Digest;
    name: string;
    version: string;
    kind: Source['kind'];
    /** What the pusher and `dkms.conf` say besides. */
    facts: JsonText<SourceFacts>;
    /** The Git commit that was pushed, where the client found one. */
    commit_id: string | null;
    blob: Digest;
    layout: JsonText<TreeOrigin['layout']>;
    trust: Trust;
    /** Who vouches for it. */
    made_by: string;
    created_at: number;
  };
  /** Names that ci and admins gave: immutable, and out of a client's reach. */
  source_names: {
    name: string;
    version: string;
    source: Digest;
    made_by: string;
    created_at: number;
  };
  /** Whose a name is: the token's or archive's that first published it, or that an admin gave it to (core/policy/ownership.ts). */
  source_owners: { name: string; owner: string };
  kernels: {
    digest: Digest;
    release: string;
    arch: string;
    record: JsonText<Kernel>;
    blob: Digest;
    layout: JsonText<TreeOrigin['layout']>;
    trust: Trust;
    /** Who vouches for it. */
    made_by: string;
    created_at: number;
  };
  toolchains: {
    digest: Digest;
    name: string;
    state: ToolchainState;
    /** 1: not to be pinned by itself. */
    is_candidate: Flag;
    contents: JsonText<ToolchainContents> | null;
    problem: string | null;
    /** How often it was to be measured before, and the key of the builder that began to. */
    attempt: number;
    builder: string | null;
    made_by: string;
    created_at: number;
    pinned_at: number | null;
    retired_at: number | null;
    /** What images/make-toolchain made it of, where its packages are kept. */
    description: JsonText<ToolchainDescription> | null;
  };
  /** The packages that toolchains were made of, by the names that dpkg gives them. */
  toolchain_packages: { toolchain: Digest; name: string; version: string; blob: Digest };
  builds: {
    id: string;
    fingerprint: Digest;
    state: BuildState;
    attempt: number;
    /** The key of the builder that last began this attempt: its result counts, and no other's. */
    builder: string | null;
    source: Digest;
    kernel: Digest;
    toolchain: Digest;
    inputs: JsonText<FingerprintInputs>;
    /** The highest role that asked for it. */
    asker: Role;
    /** The token that first asked for it. */
    made_by: string;
    /** 1: the request brought settings or waivers. */
    is_tailored: Flag;
    /** Texts of the settings files, by path; their digests are in `inputs`. */
    settings: JsonText<Settings>;
    recipe: JsonText<Recipe> | null;
    /** Why policy let nobody sign it. */
    unsigned_because: string | null;
    failure: JsonText<BuildFailure> | null;
    /** Why the source is not for this kernel, by its own word. */
    exclusion: string | null;
    timings: JsonText<BuildTimings> | null;
    created_at: number;
    started_at: number | null;
    finished_at: number | null;
  };
  modules: {
    build: string;
    name: string;
    size: number;
    modinfo: JsonText<BuiltModule['modinfo']>;
  };
  /** What builds made: blobs. `name` is a module's, else ''; `key` is the signer's whose signature it holds, else ''. */
  artifacts: { build: string; kind: ArtifactKind; name: string; key: string; digest: Digest };
  /** Which keys signed a build's modules and its provenance, and with which hash. */
  signatures: { build: string; key: string; hash: string; created_at: number };
  /** Distributions' archives that kernels and modules' sources are taken from (core/kernel/archive.ts). */
  archives: {
    name: string;
    kind: ArchiveKind;
    sources: string;
    headers: string;
    /** The packages whose modules' sources are taken in, and whether these are built for each of its new kernels. */
    modules: string | null;
    builds_ahead: Flag;
    /** When the newest of its metadata that was believed was made, in seconds since 1970; `null` where its tool keeps that, as apt does. */
    newest: number | null;
    made_by: string;
    created_at: number;
  };
  /** Kernels that were taken from them, by the packages they came in. */
  archive_kernels: {
    origin: Digest;
    archive: string;
    release: string;
    kernel: Digest;
    created_at: number;
  };
  /** Packages of modules' sources that were taken from them, by the digest of the package's file, and the sources that each has. */
  archive_packages: {
    digest: Digest;
    archive: string;
    name: string;
    version: string;
    created_at: number;
  };
  archive_sources: { package: Digest; source: Digest };
  /** Packages of what was signed (core/packages). No row is ever removed, as a version is given once; the bytes may go. */
  packages: {
    id: string;
    fingerprint: Digest;
    format: PackageFormat;
    kind: PackageSubject['kind'];
    name: string;
    version: string;
    /** The package's own file. */
    file: string;
    /** The source's name; '' for what belongs to none. */
    source: string;
    /** The build whose modules are in it, and the signer's key; '' for a package without modules. */
    build: string;
    key: string;
    subject: JsonText<PackageSubject>;
    /** Digest of the subject without its revision, by which a package is found that was made of the same. */
    made_of: Digest;
    plan: JsonText<PackagePlan>;
    toolchain: Digest;
    state: PackageState;
    attempt: number;
    /** As for a build. */
    builder: string | null;
    digest: Digest | null;
    /** The digest of bytes that went (state `gone`), and may come again. */
    gone_digest: Digest | null;
    size: number | null;
    problem: string | null;
    made_by: string;
    created_at: number;
    finished_at: number | null;
  };
  /** Sources whose packages are published in repositories. */
  publications: {
    source: string;
    formats: JsonText<readonly RepositoryFormat[]>;
    channel: Channel;
    is_held: Flag;
    /** Why not all of its packages are published. */
    problem: string | null;
    made_by: string;
    created_at: number;
  };
  /** What is in each repository. */
  channel_packages: {
    format: RepositoryFormat;
    suite: string;
    channel: Channel;
    package: string;
    since: number;
  };
  /** Repositories, with the index that was asked of the signer last (`generation`), and the one that is served (`current`). */
  repositories: {
    format: RepositoryFormat;
    suite: string;
    channel: Channel;
    generation: number;
    current: number | null;
    /** Digest of what is in it. */
    content: Digest;
    made_at: number;
    valid_until: number;
    /** The same of the index that is served. */
    served_made_at: number | null;
    served_until: number | null;
    problem: string | null;
  };
  /** The files of signed indexes; of those before the current one, too, as somebody may be reading them. */
  index_files: {
    format: RepositoryFormat;
    suite: string;
    channel: Channel;
    generation: number;
    path: string;
    digest: Digest;
    size: number;
  };
  /** Finished builds made again, to see whether the bytes are the same. */
  rebuilds: {
    id: string;
    build: string;
    /** As for a build. */
    builder: string | null;
    state: RebuildView['state'];
    /** What differs, or why it failed. */
    findings: JsonText<readonly string[]>;
    created_at: number;
    finished_at: number | null;
  };
  /** `build` waits for `needs`, and is built against it. */
  dependencies: { build: string; needs: string };
  /** Who waits for a build that has not ended, and with it for all that is built for it. */
  requests: { id: string; build: string; token: string; created_at: number };
  /** Bytes that a token has sent or may read, and how often it may still come to make a record of them (api/record/uploads.ts). */
  uploads: { blob: Digest; token: string; claims: number; claimed_at: number };
  /** What hosts are not given any more (core/policy/withdrawal.ts). */
  withdrawals: {
    kind: Withdrawable;
    id: string;
    name: string;
    reason: string;
    made_by: string;
    created_at: number;
  };
  /** Who pushed a source or kernel. */
  pushers: { tree: Digest; token: string };
  /** Who asked for a build, or for what is built against it: when, and whether in the background. */
  askers: { build: string; token: string; role: Role; is_background: Flag; asked_at: number };
  /** The run over the archives, or the end of the last one, as the API that makes it last said: when it does, it says so every few seconds. */
  syncs: { name: 'archives'; view: JsonText<SyncView>; said_at: number };
  signers: { key: string; certificate: string; seen_at: number };
  /** What was asked for and not had; '' where the request named none. */
  misses: { reason: ErrorCode; source: string; release: string; count: number; last_at: number };
}
