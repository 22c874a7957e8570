import { z } from 'zod';
import { BUILD_STATES } from './build-state.ts';
import { CONTRACT_PARTS } from './compiler-contract.ts';
import { isDigest, type Digest } from './digest.ts';
import { isErrorCode, type ErrorCode } from './errors.ts';
import { isKernelRelease } from './kernel.ts';
import { MODULE_NAME } from './module-file.ts';
import { ROLES, TRUSTS } from './policy.ts';
import { SETTINGS_LIMIT, SOURCE_NAME, SOURCE_VERSION, type Settings } from './source.ts';
import { TOOLCHAIN_STATES } from './toolchain.ts';
import { NamePattern } from './ownership.ts';
import { WITHDRAWABLE, type Withdrawal } from './withdrawal.ts';

/** The wire between client and service: what `/v1` takes and gives, in one place for both sides. */

const digest = z.custom<Digest>((value) => typeof value === 'string' && isDigest(value), {
  error: 'expected sha256: and 64 hex digits',
});
const text = (max: number) => z.string().min(1).max(max);
/** What names a record in addresses and paths: no way up, nothing that commands a terminal. */
const id = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$/);
const release = z.string().refine(isKernelRelease, { error: 'no kernel release' });
const role = z.enum(ROLES);
const pairs = z.array(z.tuple([z.string(), z.string()]));

/** RFC 9457, `application/problem+json`; `code` is one of `core/errors.ts`. */
export const Problem = z.object({
  type: z.string(),
  title: z.string(),
  status: z.number(),
  detail: z.string(),
  code: z.custom<ErrorCode>((value) => typeof value === 'string' && isErrorCode(value)),
});

/** Settings files: text by absolute path; `core/source.ts` checks the paths. */
const settings = z.record(text(256), z.string().max(SETTINGS_LIMIT));
const packageName = z.string().regex(/^[a-z0-9][a-z0-9.+-]{0,99}$/);

export const CreateSource = z.strictObject({
  blob: digest,
  name: text(64).optional(),
  version: text(64).optional(),
  depends: z.array(z.string().regex(SOURCE_NAME)).max(32).optional(),
  needs: z.array(packageName).max(64).optional(),
  settings: settings.optional(),
  /** The Git commit the tree was checked out from. */
  commit: z
    .string()
    .regex(/^[0-9a-f]{40,64}$/)
    .optional(),
});
export const CreateKernel = z.union([
  z.strictObject({ blob: digest }),
  /** What is new against a kernel that is here, and the digest of what it must make with it (core/kernel-delta.ts). */
  z.strictObject({ delta: digest, base: digest, makes: digest }),
  /** A kernel that is known already. */
  z.strictObject({ digest }),
]);
export const CreateToolchain = z.strictObject({
  blob: digest,
  name: text(64),
  /** Not to be pinned, even as the first of its name. */
  candidate: z.boolean().default(false),
});
export const PromoteToolchain = z.strictObject({ untried: z.boolean().default(false) });
export const CreateArchive = z.strictObject({
  name: text(64),
  sources: text(16 * 1024),
  headers: text(300),
});
const quota = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const quotas = z.strictObject({
  builds: quota,
  uploads: quota,
  followers: quota,
  dailyBytes: quota,
});
export const CreateToken = z.strictObject({
  name: text(64),
  role,
  /** Patterns of the names that it owns and may publish under; without any, it may take each name that nobody has. */
  names: z.array(NamePattern).max(64).default([]),
  days: z.number().int().min(1).max(3650).default(365),
  /** Quotas of its own, instead of its role's. */
  quotas: quotas.partial().default({}),
});
/** What a host's kernel is: `uname -r`, `uname -v`, and the digest of its options (core/kernel-config.ts). */
export const KernelFacts = z.strictObject({
  release: text(128),
  build: text(256).optional(),
  options: digest.optional(),
  arch: text(32).optional(),
  /** `ID` and `ID_LIKE` of os-release(5): which package has its headers. */
  distribution: z
    .string()
    .regex(/^[a-z0-9._ -]{1,64}$/)
    .optional(),
});
export const CreateBuild = z.strictObject({
  source: z.union([
    z.strictObject({ digest }),
    z.strictObject({ name: text(64), version: text(64).optional() }),
  ]),
  kernel: z.union([z.strictObject({ digest }), KernelFacts]),
  toolchain: digest.optional(),
  /** Parts of the kernel's compiler contract that need not be kept. */
  waive: z.array(z.enum(CONTRACT_PARTS)).max(CONTRACT_PARTS.length).default([]),
  /** Settings files of the host, over the source's own. */
  settings: settings.default({}),
  /** Build once more what failed. */
  retry: z.boolean().default(false),
  /** Whether nobody waits for it just now: builds that somebody waits for go first. */
  background: z.boolean().default(false),
});
/** The most wishes of one request, and the bytes of settings (paths and texts) of all of them together. */
const WISHES = 1000;
const WISHES_SETTINGS = 16 * SETTINGS_LIMIT;
/** Bytes that a wish takes as JSON, but for its settings, if each character of its words is written as `\uXXXX`. */
const WISH_SIZE = 4096;
/** Bytes of JSON that hold the largest wishes there may be. */
export const WISHES_BODY_LIMIT = WISHES * WISH_SIZE + 6 * WISHES_SETTINGS;
/** Bytes of all their settings. */
const settingsSize = (wishes: readonly { readonly settings: Settings }[]): number =>
  wishes
    .flatMap(({ settings: files }) => Object.entries(files))
    .reduce((sum, [path, content]) => sum + Buffer.byteLength(path + content), 0);
/** Asks what each wish would be built as, without starting a build. */
export const ResolveBuilds = z.strictObject({
  wishes: z
    .array(CreateBuild)
    .max(WISHES, { error: `at most ${WISHES} at once; ask for the others in another request` })
    .refine((wishes) => settingsSize(wishes) <= WISHES_SETTINGS, {
      error: `the settings of all of them are over ${WISHES_SETTINGS} bytes; ask for fewer at once`,
    }),
});
/** Gives a source's name to a token; to the caller's own where none is named. */
export const GiveName = z.strictObject({ token: text(64).optional() });
export const CreateWithdrawal = z.strictObject({
  kind: z.enum(WITHDRAWABLE),
  id: text(128),
  reason: text(300).regex(/^\P{Cc}*$/u, { error: 'a reason is one line' }),
});
export const RevokeToken = z.strictObject({
  /** The reason for which all that it pushed is withdrawn; without one nothing is withdrawn. */
  withdraw: CreateWithdrawal.shape.reason.optional(),
});
export const CancelBuild = z.strictObject({ request: text(64).optional() });

/** The token that made a record, or a part of the service itself. */
export const Maker = z.object({ id: z.string(), name: z.string() });
export type Maker = z.infer<typeof Maker>;

/** What was withdrawn, and why. */
const withdrawn = z.string().nullable();

export const WithdrawalView = z.object({
  kind: z.enum(WITHDRAWABLE),
  id: z.string().max(128),
  name: z.string().max(200),
  reason: z.string().max(300),
  madeBy: Maker,
  createdAt: z.number(),
});
export type WithdrawalView = z.infer<typeof WithdrawalView> & Withdrawal;

export const SourceView = z.object({
  digest,
  tree: digest,
  name: z.string().regex(SOURCE_NAME),
  version: z.string().regex(SOURCE_VERSION),
  kind: z.enum(['dkms', 'kbuild']),
  autoinstall: z.boolean(),
  depends: z.array(z.string().regex(SOURCE_NAME)),
  needs: z.array(packageName),
  settings,
  commit: z.string().nullable(),
  trust: z.enum(TRUSTS),
  madeBy: Maker,
  createdAt: z.number(),
});

export const KernelView = z.object({
  digest,
  release,
  build: z.string().nullable(),
  arch: z.string(),
  compiler: z.string(),
  configDigest: digest,
  options: digest,
  symversDigest: digest.nullable(),
  contract: z.object({
    isClang: z.boolean(),
    linker: z.object({ kind: z.enum(['GNU ld', 'LLD']), version: z.number() }).nullable(),
    assembler: z.number().nullable(),
    pahole: z.number().nullable(),
    rustc: z.string().nullable(),
  }),
  vermagic: z.string(),
  marks: z.record(z.string(), z.string()),
  signatureHash: z.string(),
  buildDirectory: z.string(),
  sourceDirectory: z.string().nullable(),
  missing: z.array(z.string()),
  hostPrograms: z.object({ arches: z.array(z.string()), glibc: z.string().nullable() }),
  trust: z.enum(TRUSTS),
  madeBy: Maker,
  createdAt: z.number(),
});

const tool = z.object({ path: z.string(), version: z.string() });
export const ToolchainView = z.object({
  digest,
  name: z.string(),
  state: z.enum(TOOLCHAIN_STATES),
  problem: z.string().nullable(),
  contents: z
    .object({
      arch: z.string(),
      os: z.string(),
      libc: z.string(),
      compilers: z.array(tool),
      linker: tool,
      lld: tool.nullable(),
      assembler: tool.nullable(),
      pahole: tool.nullable(),
      rustc: tool.nullable(),
      make: tool,
      packages: z.array(z.object({ name: z.string(), version: z.string(), arch: z.string() })),
    })
    .nullable(),
  madeBy: Maker,
  /** Whether the packages that it was made of are kept with it. */
  isRemakeable: z.boolean(),
  createdAt: z.number(),
  pinnedAt: z.number().nullable(),
  retiredAt: z.number().nullable(),
});

export const TokenView = z.object({
  id: z.string(),
  name: z.string(),
  role,
  quotas,
  names: z.array(z.string()),
  madeBy: Maker,
  expiresAt: z.number(),
  revokedAt: z.number().nullable(),
});
/** The only time a token's secret is shown. */
export const IssuedToken = TokenView.extend({ secret: z.string() });

export const ModuleView = z.object({
  name: z.string().regex(MODULE_NAME),
  unsigned: digest,
  signed: digest.nullable(),
  size: z.number(),
  modinfo: pairs,
});

export const BuildView = z.object({
  id,
  fingerprint: digest,
  state: z.enum(BUILD_STATES),
  attempt: z.number(),
  source: SourceView.pick({ digest: true, name: true, version: true }),
  kernel: KernelView.pick({
    digest: true,
    release: true,
    arch: true,
    compiler: true,
    vermagic: true,
  }),
  toolchain: z.object({ digest, name: z.string() }),
  /** All that the fingerprint covers (core/fingerprint.ts). */
  inputs: z.record(z.string(), z.unknown()),
  recipe: z.record(z.string(), z.unknown()).nullable(),
  modules: z.array(ModuleView),
  signature: z.union([
    z.null(),
    z.object({ kind: z.literal('signed'), key: z.string(), hash: z.string() }),
    z.object({ kind: z.literal('unsigned'), reason: z.string() }),
  ]),
  /** Builds it is built against. */
  dependencies: z.array(id),
  /** Why the source is not for this kernel, where it says so. */
  exclusion: z.string().nullable(),
  /** `headers`: newer headers of the same release have come since it was built. */
  stale: z.enum(['headers']).nullable(),
  failure: z
    .object({ code: z.string(), message: z.string(), lines: z.array(z.string()) })
    .nullable(),
  log: digest.nullable(),
  attestation: digest.nullable(),
  timings: z.record(z.string(), z.number()).nullable(),
  madeBy: Maker,
  /** Why it is withdrawn, or `null`. */
  withdrawn,
  createdAt: z.number(),
  startedAt: z.number().nullable(),
  finishedAt: z.number().nullable(),
});

/** What a wish would be built as now, or why it cannot be. */
export const ResolvedView = z.union([
  z.object({
    fingerprint: digest,
    source: SourceView.pick({ digest: true, name: true, version: true }),
    toolchain: z.object({ digest, name: z.string() }),
    inputs: z.record(z.string(), z.unknown()),
    /** The state of the build with this fingerprint; `null` if there is none. */
    state: z.enum(BUILD_STATES).nullable(),
    exclusion: z.string().nullable(),
    failure: z.string().nullable(),
  }),
  z.object({ problem: Problem.pick({ code: true, detail: true }) }),
]);

export const ArchiveView = CreateArchive.extend({ madeBy: Maker, createdAt: z.number() });

/** The state of the run over the archives, or the end of the last one. */
export const SyncView = z.object({
  state: z.enum(['idle', 'running']),
  step: z.string(),
  kernels: z.array(z.object({ release: z.string(), digest, isNew: z.boolean() })),
  /** Builds that it began. */
  builds: z.array(z.string()),
  problems: z.array(z.string()),
  finishedAt: z.number().nullable(),
});

export const RebuildView = z.object({
  id,
  build: id,
  state: z.enum(['running', 'same', 'different', 'failed']),
  /** Modules whose bytes differ, or why it failed. */
  findings: z.array(z.string()),
  createdAt: z.number(),
  finishedAt: z.number().nullable(),
});

export const BuildTicket = z.object({
  build: BuildView,
  /** The id of this request, by which it is taken back. A build is cancelled when its last request is. */
  request: id,
  /** Whether the answer was there already, from an earlier build. */
  cached: z.boolean(),
});

export const SignerView = z.object({ key: z.string(), certificate: z.string() });

/** A miss: how often something was asked for and not had, for one reason, source and kernel release (`null` where none was named). */
export const MissView = z.object({
  reason: z.custom<ErrorCode>((value) => typeof value === 'string' && isErrorCode(value)),
  source: z.string().nullable(),
  release: z.string().nullable(),
  count: z.number(),
  lastAt: z.number(),
});

/** The most items of one page of a list. */
export const PAGE = 200;

export const list = <T extends z.ZodType>(item: T) => z.object({ items: z.array(item) });

export type Problem = z.infer<typeof Problem>;
export type CreateBuild = z.input<typeof CreateBuild>;
export type CreateToken = z.input<typeof CreateToken>;
export type KernelFacts = z.infer<typeof KernelFacts>;
export type ResolvedView = z.infer<typeof ResolvedView>;
export type SourceView = z.infer<typeof SourceView>;
export type KernelView = z.infer<typeof KernelView>;
export type ToolchainView = z.infer<typeof ToolchainView>;
export type TokenView = z.infer<typeof TokenView>;
export type IssuedToken = z.infer<typeof IssuedToken>;
export type ModuleView = z.infer<typeof ModuleView>;
export type BuildView = z.infer<typeof BuildView>;
export type ArchiveView = z.infer<typeof ArchiveView>;
export type SyncView = z.infer<typeof SyncView>;
export type RebuildView = z.infer<typeof RebuildView>;
export type BuildTicket = z.infer<typeof BuildTicket>;
export type MissView = z.infer<typeof MissView>;
export type SignerView = z.infer<typeof SignerView>;
