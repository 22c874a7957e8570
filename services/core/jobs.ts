import type { Digest } from './digest.ts';
import type { FingerprintInputs } from './fingerprint.ts';
import type { Kernel } from './kernel.ts';
import type { SignatureHash } from './module-signature.ts';
import type { Recipe } from './recipe.ts';
import type { Settings, Source } from './source.ts';
import type { ToolchainContents } from './measurement.ts';
import type { Move } from './tree.ts';

/** Where a tree comes from: the archive's blob, and how the archive is laid out. */
export interface TreeOrigin {
  readonly blob: Digest;
  readonly layout: readonly Move[];
}

/** A finished build that another one is built against. */
export interface Dependency {
  readonly fingerprint: Digest;
  readonly source: Source & TreeOrigin;
  readonly modules: readonly { readonly name: string; readonly unsigned: Digest }[];
  /** An archive of what it leaves for others: `Module.symvers`, and what its `POST_BUILD` kept. */
  readonly exports: Digest;
}

/** Work for a builder. */
export type BuilderJob =
  | {
      readonly kind: 'build';
      readonly build: string;
      readonly attempt: number;
      /** Set where a finished build is made again, to see whether the bytes are the same: it changes nothing of the build. */
      readonly rebuild: string | null;
      readonly source: Source & TreeOrigin;
      readonly kernel: Kernel & TreeOrigin;
      readonly toolchain: Digest;
      readonly dependencies: readonly Dependency[];
      /** Texts to lay at their absolute paths. */
      readonly settings: Settings;
      readonly inputs: FingerprintInputs;
    }
  | { readonly kind: 'measure'; readonly toolchain: Digest };

/** Work for a signer. */
export interface SignJob {
  readonly build: string;
  readonly attempt: number;
  readonly fingerprint: Digest;
  readonly hash: SignatureHash;
  readonly inputs: FingerprintInputs;
  readonly recipe: Recipe;
  readonly modules: readonly { readonly name: string; readonly unsigned: Digest }[];
}

/** A module as it came out of the sandbox, checked and stripped. */
export interface BuiltModule {
  readonly name: string;
  readonly unsigned: Digest;
  readonly size: number;
  readonly modinfo: readonly (readonly [string, string])[];
}

/** Why a build ended without modules: a code for scripts, a sentence for people, and the lines that say it. */
export interface BuildFailure {
  readonly code:
    | 'compile-failed'
    | 'bad-source'
    | 'dependency-failed'
    | 'timed-out'
    | 'out-of-memory'
    | 'over-limit'
    | 'bad-output'
    | 'signing-failed'
    | 'builder-broken';
  readonly message: string;
  readonly lines: readonly string[];
}

/** How long a builder's parts took, in milliseconds. */
export interface BuildTimings {
  readonly prepare: number;
  readonly sandbox: number;
  readonly check: number;
}

/** What workers report to the coordinator. Each may arrive twice, or late: `attempt` tells. */
export type Outcome =
  | { readonly kind: 'started'; readonly build: string; readonly attempt: number }
  | {
      readonly kind: 'built';
      readonly build: string;
      readonly attempt: number;
      readonly recipe: Recipe;
      readonly modules: readonly BuiltModule[];
      readonly exports: Digest;
      readonly log: Digest;
      readonly timings: BuildTimings;
    }
  | {
      readonly kind: 'rebuilt';
      readonly rebuild: string;
      readonly modules: readonly BuiltModule[];
      readonly failure: BuildFailure | null;
    }
  | {
      readonly kind: 'excluded';
      readonly build: string;
      readonly attempt: number;
      /** Which directive of the source leaves this kernel out. */
      readonly reason: string;
      readonly log: Digest;
    }
  | {
      readonly kind: 'failed';
      readonly build: string;
      readonly attempt: number;
      readonly failure: BuildFailure;
      readonly log: Digest | null;
    }
  | {
      readonly kind: 'signed';
      readonly build: string;
      readonly attempt: number;
      readonly key: string;
      readonly modules: readonly { readonly name: string; readonly signed: Digest }[];
      readonly attestation: Digest;
    }
  | { readonly kind: 'measured'; readonly toolchain: Digest; readonly contents: ToolchainContents }
  | { readonly kind: 'unmeasurable'; readonly toolchain: Digest; readonly problem: string }
  | { readonly kind: 'signer'; readonly key: string; readonly certificate: string };
