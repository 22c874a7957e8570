import { z } from 'zod';
import { BUILD_STATES } from '../build/build-state.ts';
import { CONTRACT_PARTS } from '../kernel/compiler-contract.ts';
import { MODULE_NAME } from '../module/module-file.ts';
import { SETTINGS_LIMIT, type Settings } from '../source/source.ts';
import type { HostFiles } from '../source/host-files.ts';
import { digest } from '../digest.ts';
import { hostFiles } from '../schemas/domain.ts';
import { text, id, pairs, settings, Maker } from './parts.ts';
import { Problem } from './problem.ts';
import { SourceView } from './source.ts';
import { HostKernel, KernelView } from './kernel.ts';
import { withdrawn } from './withdrawal.ts';

/** A request for a build. */
export const CreateBuild = z.strictObject({
  source: z.union([
    z.strictObject({ digest }),
    z.strictObject({ name: text(64), version: text(64).optional() }),
  ]),
  kernel: z.union([z.strictObject({ digest }), HostKernel]),
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
export type CreateBuild = z.input<typeof CreateBuild>;

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
    .max(WISHES, {
      error: `one request may ask for ${WISHES} at most; ask for the others in another`,
    })
    .refine((wishes) => settingsSize(wishes) <= WISHES_SETTINGS, {
      error: `the settings are over ${WISHES_SETTINGS} bytes in all; ask for fewer at once`,
    }),
});

/** A request to take back: without one, those of everybody (admin). */
export const CancelBuild = z.strictObject({ request: text(64).optional() });

/** A module of a build. */
export const ModuleView = z.object({
  name: z.string().regex(MODULE_NAME),
  unsigned: digest,
  signed: digest.nullable(),
  size: z.number(),
  modinfo: pairs,
});
export type ModuleView = z.infer<typeof ModuleView>;

/** A build. */
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
  /** All that the fingerprint covers (core/build/fingerprint.ts). */
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
    .object({ code: z.string(), message: z.string(), lines: z.array(z.string()).readonly() })
    .nullable(),
  log: digest.nullable(),
  attestation: digest.nullable(),
  timings: z.record(z.string(), z.number()).nullable(),
  madeBy: Maker,
  withdrawn,
  createdAt: z.number(),
  startedAt: z.number().nullable(),
  finishedAt: z.number().nullable(),
});
export type BuildView = z.infer<typeof BuildView>;

/** The files for hosts that a build's source brings, by their places; none where its inputs do not say so in form. */
export const filesOf = ({ inputs }: Pick<BuildView, 'inputs'>): HostFiles =>
  hostFiles.safeParse(inputs['files']).data ?? {};

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
export type ResolvedView = z.infer<typeof ResolvedView>;

/** A rebuild: a finished build that is made again and compared. */
export const RebuildView = z.object({
  id,
  build: id,
  state: z.enum(['running', 'same', 'different', 'failed']),
  /** Modules whose bytes differ, or why it failed. */
  findings: z.array(z.string()).readonly(),
  createdAt: z.number(),
  finishedAt: z.number().nullable(),
});
export type RebuildView = z.infer<typeof RebuildView>;

/** The answer to a request whose kernel is being fetched from an archive: nothing is asked for yet, and the request is to be made again. */
export const BuildWait = z.strictObject({ waiting: z.string() });
export type BuildWait = z.infer<typeof BuildWait>;

/** The answer to a request: the build that it joined. */
export const BuildTicket = z.object({
  build: BuildView,
  /** The id of this request, by which it is taken back. A build is cancelled when its last request is. */
  request: id,
  /** Whether the answer was there already, from an earlier build. */
  cached: z.boolean(),
});
export type BuildTicket = z.infer<typeof BuildTicket>;
