import { buildEnvironment } from './build-environment.ts';
import type { ContractPart } from '../kernel/compiler-contract.ts';
import { canonicalJson } from '../format/canonical-json.ts';
import { digestOf, hexOf, type Digest } from '../digest.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Arch } from '../arch.ts';
import { buildDirectory } from './recipe.ts';
import type { HostFiles } from '../source/host-files.ts';
import type { Settings, Source } from '../source/source.ts';

/** Everything that can change a module's bytes. Same inputs, same fingerprint, same bytes. */
export interface FingerprintInputs {
  readonly source: Pick<Source, 'digest' | 'tree' | 'name' | 'version'>;
  readonly kernel: {
    readonly tree: Digest;
    readonly config: Digest;
    /** Digest of the kernel's options alone, which hosts can compute from `/boot/config-RELEASE`. */
    readonly options: Digest;
    readonly symvers: Digest | null;
    readonly release: string;
    readonly arch: Arch;
    readonly compiler: string;
  };
  readonly toolchain: Digest;
  /** Parts of the kernel's compiler contract that this toolchain does not keep, waived by the request. */
  readonly waived: readonly ContractPart[];
  /** Builds that this one is built against, by name; their fingerprints cover all of their inputs. */
  readonly dependencies: readonly (Pick<Source, 'name' | 'version'> & {
    readonly fingerprint: Digest;
  })[];
  /** Files laid below `/etc` for the build, by digest. */
  readonly settings: Readonly<Record<string, Digest>>;
  /** Files that hosts get beside the modules, by their places there; left out where the source has none. */
  readonly files?: HostFiles;
  /** What the steps are worked out from. They follow from source, kernel and script, which are covered already. */
  readonly recipe: { readonly from: 'dkms.conf' | 'kbuild'; readonly directory: string };
  readonly environment: Readonly<Record<string, string>>;
  /** Digest of the in-container build script. */
  readonly script: Digest;
}

/** The records that a request was resolved to. */
export interface ResolvedInputs {
  readonly source: Source;
  readonly kernel: Kernel;
  readonly toolchain: Digest;
  readonly waived: readonly ContractPart[];
  readonly dependencies: FingerprintInputs['dependencies'];
  /** The request's own settings; they override the source's. */
  readonly settings: Settings;
}

/** The inputs of a build. */
export const fingerprintInputs = (
  { source, kernel, toolchain, waived, dependencies, settings }: ResolvedInputs,
  script: Digest,
): FingerprintInputs => ({
  source: {
    digest: source.digest,
    tree: source.tree,
    name: source.name,
    version: source.version,
  },
  kernel: {
    tree: kernel.digest,
    config: kernel.configDigest,
    options: kernel.options,
    symvers: kernel.symversDigest,
    release: kernel.release,
    arch: kernel.arch,
    compiler: kernel.compiler,
  },
  toolchain,
  waived: [...waived].sort(),
  dependencies,
  settings: Object.fromEntries(
    Object.entries({ ...source.settings, ...settings }).map(([path, text]) => [
      path,
      digestOf(text),
    ]),
  ),
  ...(Object.keys(source.files).length === 0 ? {} : { files: source.files }),
  recipe: {
    from: source.kind === 'dkms' ? 'dkms.conf' : 'kbuild',
    directory: buildDirectory(source),
  },
  environment: buildEnvironment(kernel, dependencies),
  script,
});

/** SHA-256 over the canonical JSON (RFC 8785) of the inputs. */
export const fingerprintOf = (inputs: FingerprintInputs): Digest =>
  digestOf(canonicalJson({ ...inputs }));

/** A build's id: the first 24 digits of its fingerprint. */
export const buildIdOf = (fingerprint: Digest): string => hexOf(fingerprint).slice(0, 24);
