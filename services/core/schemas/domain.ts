import { z } from 'zod';
import { CONTRACT_PARTS } from '../kernel/compiler-contract.ts';
import { digest } from '../digest.ts';
import type { FingerprintInputs } from '../build/fingerprint.ts';
import { isKernelRelease, type Kernel } from '../kernel/kernel.ts';
import { ARCHES } from '../arch.ts';
import type { ToolchainContents } from '../toolchain/measurement.ts';
import { MODULE_NAME } from '../module/module-file.ts';
import type { Recipe } from '../build/recipe.ts';
import {
  SETTINGS_FILES,
  SETTINGS_LIMIT,
  SETTINGS_PATH,
  SOURCE_NAME,
  SOURCE_VERSION,
  type Source,
} from '../source/source.ts';
import { HOST_FILES, isHostFilePlace } from '../source/host-files.ts';
import type { Move } from '../tree/tree.ts';

/**
 * Schemas of the domain's values in messages: strict and bounded, so that a worker can use what it gets. Each schema is checked against
 * its type at compile time: a field that only one of them has is an error.
 */

/** One line of words. */
const line = (max: number) => z.string().max(max);
/** A list of at most `max` items. */
export const list = <T extends z.ZodType>(item: T, max: number) =>
  z.array(item).max(max).readonly();

/** A relative path without `..`; the reader decides which directory it is relative to. */
const path = z
  .string()
  .max(1024)
  .refine(
    (text) => !text.startsWith('/') && !text.split('/').includes('..') && !text.includes('\0'),
    {
      error: 'expected a path without ..',
    },
  );
const absolutePath = z
  .string()
  .max(1024)
  .refine(
    (text) => text.startsWith('/') && !text.split('/').includes('..') && !text.includes('\0'),
    {
      error: 'expected an absolute path without ..',
    },
  );

/** A source’s name, its version, and a module’s name: each can be part of a path. */
export const sourceName = z.string().regex(SOURCE_NAME);
export const sourceVersion = z.string().regex(SOURCE_VERSION);
export const moduleName = z.string().regex(MODULE_NAME);
const release = z.string().refine(isKernelRelease, { error: 'expected a kernel release' });
const arch = z.enum(ARCHES);

const MOVES = 64;
const move = z.strictObject({
  from: path,
  to: path,
  headersOnly: z.literal(true).exactOptional(),
}) satisfies z.ZodType<Move>;
/** Where a tree comes from: the tarball's blob, and how the tarball is laid out. */
export const treeOrigin = { blob: digest, layout: list(move, MOVES) };

const settingsPath = z.string().regex(SETTINGS_PATH);
/** Settings files by their absolute path. */
export const settings = z
  .record(settingsPath, z.string().max(SETTINGS_LIMIT))
  .refine((files) => Object.keys(files).length <= 2 * SETTINGS_FILES, {
    error: 'too many settings files',
  });

/** Digests of files for hosts, by their places there. */
export const hostFiles = z
  .record(z.string().refine(isHostFilePlace), digest)
  .refine((files) => Object.keys(files).length <= HOST_FILES, { error: 'too many files' });

const source = {
  digest,
  tree: digest,
  name: sourceName,
  version: sourceVersion,
  kind: z.enum(['dkms', 'kbuild']),
  autoinstall: z.boolean(),
  depends: list(sourceName, 64),
  needs: list(line(100), 256),
  hasRust: z.boolean(),
  settings,
  files: hostFiles,
};
const bareSource = z.strictObject(source) satisfies z.ZodType<Source>;
/** A source, with the place of its tree among the blobs. */
export const storedSource = bareSource.extend(treeOrigin);

const bareKernel = z.strictObject({
  digest,
  release,
  build: line(1024).nullable(),
  arch,
  configDigest: digest,
  options: digest,
  symversDigest: digest.nullable(),
  compiler: line(1024),
  contract: z.strictObject({
    isClang: z.boolean(),
    linker: z.strictObject({ kind: z.enum(['GNU ld', 'LLD']), version: z.number() }).nullable(),
    assembler: z.number().nullable(),
    pahole: z.number().nullable(),
    rustc: line(1024).nullable(),
  }),
  vermagic: line(512),
  marks: z.record(line(64), line(64)),
  signatureHash: line(64),
  buildDirectory: absolutePath,
  sourceDirectory: absolutePath.nullable(),
  missing: list(absolutePath, MOVES),
  hostPrograms: z.strictObject({ arches: list(arch, 16), glibc: line(64).nullable() }),
}) satisfies z.ZodType<Kernel>;
/** A kernel, with the place of its tree among the blobs. */
export const storedKernel = bareKernel.extend(treeOrigin);

/** All that a fingerprint covers. */
export const fingerprintInputs = z.strictObject({
  source: bareSource.pick({ digest: true, tree: true, name: true, version: true }),
  kernel: z.strictObject({
    tree: digest,
    config: digest,
    options: digest,
    symvers: digest.nullable(),
    release,
    arch,
    compiler: line(1024),
  }),
  toolchain: digest,
  waived: list(z.enum(CONTRACT_PARTS), CONTRACT_PARTS.length),
  dependencies: list(
    z.strictObject({ name: sourceName, version: sourceVersion, fingerprint: digest }),
    256,
  ),
  settings: z.record(settingsPath, digest),
  files: hostFiles.exactOptional(),
  recipe: z.strictObject({ from: z.enum(['dkms.conf', 'kbuild']), directory: absolutePath }),
  environment: z.record(line(128), line(64 * 1024)),
  script: digest,
}) satisfies z.ZodType<FingerprintInputs>;

/** The most modules of one build. */
export const MODULES = 256;
const STEPS = 1000;
const COMMAND = 1024 ** 2;
/** What to run for a build. */
export const recipe = z.strictObject({
  steps: list(
    z.strictObject({
      label: z.enum(['patch', 'pre-build', 'clean', 'make', 'post-build']),
      command: line(COMMAND),
      kind: z.enum(['one', 'spread', 'clean', 'script']),
    }),
    STEPS,
  ),
  modules: z.union([
    z.strictObject({
      kind: z.literal('listed'),
      list: list(z.strictObject({ path, name: moduleName, strip: z.boolean() }), MODULES),
    }),
    z.strictObject({ kind: z.literal('every') }),
  ]),
  mayLink: z.boolean(),
  passedOver: list(line(64), 64),
}) satisfies z.ZodType<Recipe>;

const tool = z.strictObject({ path: line(1024), version: line(1024) });
const PACKAGES = 5000;
/** What a toolchain was measured to contain. */
export const toolchainContents = z.strictObject({
  arch: line(64),
  os: line(256),
  libc: line(256),
  compilers: list(tool, 64),
  linker: tool,
  lld: tool.nullable(),
  assembler: tool.nullable(),
  pahole: tool.nullable(),
  rustc: tool.nullable(),
  make: tool,
  packages: list(z.strictObject({ name: line(256), version: line(256), arch: line(64) }), PACKAGES),
}) satisfies z.ZodType<ToolchainContents>;
