import { buildEnvironment } from './build-environment.ts';
import { canonicalJson } from './canonical-json.ts';
import { digestOf, hexOf, type Digest } from './digest.ts';
import type { Kernel } from './kernel.ts';
import { buildDirectory } from './recipe.ts';
import type { Source } from './source.ts';

/** Everything that can change a module's bytes. Same inputs, same fingerprint, same bytes. */
export interface FingerprintInputs {
  readonly source: { readonly tree: Digest; readonly name: string; readonly version: string };
  readonly kernel: {
    readonly tree: Digest;
    readonly config: Digest;
    readonly symvers: Digest | null;
    readonly release: string;
    readonly compiler: string;
  };
  readonly toolchain: Digest;
  /** How the steps are worked out. They follow from source, kernel and script, so naming those names them. */
  readonly recipe: { readonly from: 'dkms.conf' | 'kbuild'; readonly directory: string };
  readonly environment: Readonly<Record<string, string>>;
  /** Digest of the in-container build script. */
  readonly script: Digest;
}

/** The inputs of a build, from what was resolved for it. */
export const fingerprintInputs = (
  source: Source,
  kernel: Kernel,
  toolchain: Digest,
  script: Digest,
): FingerprintInputs => ({
  source: { tree: source.tree, name: source.name, version: source.version },
  kernel: {
    tree: kernel.digest,
    config: kernel.configDigest,
    symvers: kernel.symversDigest,
    release: kernel.release,
    compiler: kernel.compiler,
  },
  toolchain,
  recipe: {
    from: source.kind === 'dkms' ? 'dkms.conf' : 'kbuild',
    directory: buildDirectory(source),
  },
  environment: buildEnvironment(kernel),
  script,
});

/** SHA-256 over the canonical JSON (RFC 8785) of the inputs. */
export const fingerprintOf = (inputs: FingerprintInputs): Digest =>
  digestOf(canonicalJson({ ...inputs }));

/** A build's id: the first 24 digits of its fingerprint. */
export const buildIdOf = (fingerprint: Digest): string => hexOf(fingerprint).slice(0, 24);
