import { z } from 'zod';
import { digest } from '../digest.ts';
import {
  fingerprintInputs,
  list,
  moduleName,
  MODULES,
  recipe,
  settings,
  storedKernel,
  storedSource,
  toolchainContents,
  treeOrigin,
} from '../schemas/domain.ts';
import { HASHES } from '../module/module-signature.ts';
import { PackagePlan } from '../packages/plan.ts';
import {
  IndexFile,
  RepositoryContent,
  MOST_PACKAGES,
  RepositoryName,
} from '../repository/repository.ts';

/**
 * The messages between the roles, in one place for both sides. A message is parsed where it arrives (`storage/queues.ts`), after its
 * sender was verified (`envelope.ts`): a digest in it is a digest, a name can be part of a path, and everything is bounded.
 */

const build = z.string().regex(/^[0-9a-f]{24}$/);
const attempt = z.number().int().min(0).max(1_000_000);
const rebuild = z.string().regex(/^rebuild-[0-9a-f-]{36}$/);
const unsignedModule = z.strictObject({ name: moduleName, unsigned: digest });

/** A finished build that another one is built against. */
const Dependency = z.strictObject({
  fingerprint: digest,
  source: storedSource,
  modules: list(unsignedModule, MODULES),
  /** A tarball of its exports: `Module.symvers`, and what its `POST_BUILD` kept for other builds. */
  exports: digest,
});

const BuildJob = z.strictObject({
  kind: z.literal('build'),
  build,
  attempt,
  /** Set where a finished build is made again, to see whether the bytes are the same: it changes nothing of the build. */
  rebuild: rebuild.nullable(),
  source: storedSource,
  kernel: storedKernel,
  toolchain: digest,
  dependencies: list(Dependency, 256),
  /** Texts to lay at their absolute paths. */
  settings,
  inputs: fingerprintInputs,
});

const packageId = z.string().regex(/^[0-9a-f]{24}$/);

/** A package that is to be made of what was signed. */
const PackageJob = z.strictObject({
  kind: z.literal('package'),
  package: packageId,
  attempt,
  plan: PackagePlan,
  toolchain: digest,
  /** Digest of `images/package`. */
  script: digest,
});

/** Work for a builder. */
export const BuilderJob = z.discriminatedUnion('kind', [
  BuildJob,
  PackageJob,
  z.strictObject({ kind: z.literal('measure'), toolchain: digest, attempt }),
]);

/** A build to sign. */
export const SignJob = z.strictObject({
  kind: z.literal('sign'),
  build,
  attempt,
  fingerprint: digest,
  hash: z.enum(HASHES),
  inputs: fingerprintInputs,
  recipe,
  modules: list(unsignedModule, MODULES).refine((modules) => modules.length > 0),
});

const generation = z.number().int().min(1).max(1_000_000_000);

/** A repository whose index is to be written and signed. */
const IndexRepositoryJob = z.strictObject({
  kind: z.literal('index'),
  generation,
  repository: RepositoryContent,
});

/** Work for a signer. */
export const SignerJob = z.discriminatedUnion('kind', [SignJob, IndexRepositoryJob]);

/** The most modinfo of one build, names and values, in characters. */
export const MODINFO_LIMIT = 4 * 1024 ** 2;

const BuiltModule = z.strictObject({
  name: moduleName,
  unsigned: digest,
  size: z
    .number()
    .int()
    .min(0)
    .max(2 ** 40),
  modinfo: list(z.tuple([z.string(), z.string()]).readonly(), 100_000),
});
const builtModules = list(BuiltModule, MODULES)
  .refine((modules) => modinfoSize(modules) <= MODINFO_LIMIT, {
    error: `the modinfo is over ${MODINFO_LIMIT} characters`,
  })
  .refine((modules) => new Set(modules.map(({ name }) => name)).size === modules.length, {
    error: 'two modules have one name',
  });

/** How much modinfo some modules have, in characters. */
export const modinfoSize = (modules: readonly Pick<BuiltModule, 'modinfo'>[]): number =>
  modules
    .flatMap(({ modinfo }) => modinfo)
    .reduce((sum, [key, value]) => sum + key.length + value.length, 0);

/** The most that a failure, a problem or a reason may say, in characters. */
export const WORDS_LIMIT = 4000;
const words = z.string().max(WORDS_LIMIT);

const BuildFailure = z.strictObject({
  code: z.enum([
    'compile-failed',
    'bad-source',
    'dependency-failed',
    'timed-out',
    'out-of-memory',
    'over-limit',
    'bad-output',
    'signing-failed',
    'builder-broken',
  ]),
  message: words,
  lines: list(words, 100),
});

const milliseconds = z.number().min(0).max(1e9);
const run = { build, attempt };

/**
 * The outcomes that workers report to the coordinator. One may arrive twice or late, which `attempt` shows. A worker reports that it began
 * a run before it reports the run's result.
 */
export const Outcome = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('started'), ...run }),
  z.strictObject({ kind: z.literal('rebuilding'), rebuild }),
  z.strictObject({ kind: z.literal('measuring'), toolchain: digest, attempt }),
  z.strictObject({
    kind: z.literal('built'),
    ...run,
    recipe,
    modules: builtModules.refine((modules) => modules.length > 0),
    exports: digest,
    log: digest,
    timings: z.strictObject({ prepare: milliseconds, sandbox: milliseconds, check: milliseconds }),
  }),
  z.strictObject({
    kind: z.literal('rebuilt'),
    rebuild,
    modules: builtModules,
    failure: BuildFailure.nullable(),
  }),
  z.strictObject({
    kind: z.literal('excluded'),
    ...run,
    /** Which directive of the source leaves this kernel out. */
    reason: words,
    log: digest,
  }),
  z.strictObject({
    kind: z.literal('failed'),
    ...run,
    failure: BuildFailure,
    log: digest.nullable(),
  }),
  z.strictObject({
    kind: z.literal('signed'),
    ...run,
    modules: list(z.strictObject({ name: moduleName, signed: digest }), MODULES),
    attestation: digest,
  }),
  z.strictObject({ kind: z.literal('unsignable'), ...run, failure: BuildFailure }),
  z.strictObject({
    kind: z.literal('indexed'),
    ...RepositoryName.shape,
    generation,
    files: list(IndexFile, MOST_PACKAGES + 100),
  }),
  z.strictObject({
    kind: z.literal('unindexable'),
    ...RepositoryName.shape,
    generation,
    problem: words,
  }),
  z.strictObject({
    kind: z.literal('measured'),
    toolchain: digest,
    attempt,
    contents: toolchainContents,
  }),
  z.strictObject({ kind: z.literal('unmeasurable'), toolchain: digest, attempt, problem: words }),
  z.strictObject({ kind: z.literal('packing'), package: packageId, attempt }),
  z.strictObject({
    kind: z.literal('packed'),
    package: packageId,
    attempt,
    digest,
    size: z
      .number()
      .int()
      .min(0)
      .max(2 ** 40),
  }),
  z.strictObject({ kind: z.literal('unpackable'), package: packageId, attempt, problem: words }),
]);

const Origin = z.strictObject(treeOrigin);

export type TreeOrigin = z.infer<typeof Origin>;
export type Dependency = z.infer<typeof Dependency>;
export type BuilderJob = z.infer<typeof BuilderJob>;
export type SignerJob = z.infer<typeof SignerJob>;
export type SignJob = z.infer<typeof SignJob>;
export type IndexJob = Extract<SignerJob, { kind: 'index' }>;
/** A module as it came out of the sandbox, checked and stripped. */
export type BuiltModule = z.infer<typeof BuiltModule>;
/** Why a build ended without modules: a code for scripts, a sentence for people, and the lines that say it. */
export type BuildFailure = z.infer<typeof BuildFailure>;
/** How long a builder's parts took, in milliseconds. */
export type BuildTimings = Extract<Outcome, { kind: 'built' }>['timings'];
export type Outcome = z.infer<typeof Outcome>;

/** A failure whose words are cut to what a message may hold. */
export const shortened = ({ code, message, lines }: BuildFailure): BuildFailure => ({
  code,
  message: message.slice(0, WORDS_LIMIT),
  lines: lines.slice(0, 100).map((text) => text.slice(0, WORDS_LIMIT)),
});
