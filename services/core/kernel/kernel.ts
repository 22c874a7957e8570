import { compilerContract, type CompilerContract } from './compiler-contract.ts';
import { digestOf, type Digest } from '../digest.ts';
import { KilnError } from '../errors.ts';
import { inspectHostPrograms, isHostProgram, type HostPrograms } from './host-programs.ts';
import type { Arch } from '../arch.ts';
import {
  archOf,
  marksOf,
  optionsDigest,
  parseKernelConfig,
  signatureHashOf,
  vermagicOf,
} from './kernel-config.ts';
import { layKernel } from './kernel-layout.ts';
import {
  layTree,
  movedPath,
  mustKeepLinks,
  type Move,
  type Tree,
  type ScannedTree,
} from '../tree/tree.ts';

/** One built kernel's headers. Its digest is its tree's: same release, other headers, another kernel. */
export interface Kernel {
  /** Digest of the tree; the kernel's identity. */
  readonly digest: Digest;
  /** `uname -r`. */
  readonly release: string;
  /** `uname -v`, with the package version in it; `null` where the headers do not say. */
  readonly build: string | null;
  readonly arch: Arch;
  readonly configDigest: Digest;
  /** Digest of its options, by which a host's `/boot/config-RELEASE` tells it. */
  readonly options: Digest;
  readonly symversDigest: Digest | null;
  /** `CONFIG_CC_VERSION_TEXT`: the compiler that built this kernel. */
  readonly compiler: string;
  /** What built this kernel, as far as its `.config` says. */
  readonly contract: CompilerContract;
  /** What modules for this kernel must carry. */
  readonly vermagic: string;
  /** Other modinfo that they must carry, such as `retpoline=Y`. */
  readonly marks: Readonly<Record<string, string>>;
  readonly signatureHash: string;
  /** Absolute path of the tree that `/lib/modules/REL/build` points to. */
  readonly buildDirectory: string;
  /** The same of `/lib/modules/REL/source`, where the build tree's Makefile names another tree (Debian's and openSUSE's do); else `null`. */
  readonly sourceDirectory: string | null;
  /** What its links lead to and only sources in Rust need, where that is not in the tree; paths from `/`. */
  readonly missing: readonly string[];
  /** What the tree's own programs need to run. */
  readonly hostPrograms: HostPrograms;
}

/** Files whose content `inspectKernel` reads; the reader of tarballs keeps these. */
export const isKernelEvidence = (path: string): boolean =>
  /(^|\/)\.config$/.test(path) ||
  /^([^/]+\/){0,4}Makefile$/.test(path) ||
  /(^|\/)usr\/src\/([^/]+\/){1,3}Makefile$/.test(path) ||
  isHostProgram(path) ||
  /(^|\/)include\/generated\/(utsrelease|utsversion|compile)\.h$/.test(path);

const RELEASE = /^[0-9]+\.[0-9]+[A-Za-z0-9.+_~-]{0,100}$/;

/** Tells whether a text can be what `uname -r` says. */
export const isKernelRelease = (text: string): boolean => RELEASE.test(text);

/**
 * Finds the kernel in a tarball of headers: a tree from `/` (`usr/src`, `usr/lib/linux-kbuild-*`) or
 * a single build tree, at the top or in a directory. Whatever the way in, the same headers give the same digest.
 * Throws `KilnError('bad-kernel')` saying what is missing.
 */
export const inspectKernel = (
  scanned: ScannedTree,
): { kernel: Kernel; tree: Tree; layout: readonly Move[] } => {
  const home = findBuildTree(scanned);
  const read = (name: string): string | null =>
    scanned.evidence.get(home === '' ? name : `${home}/${name}`)?.toString('utf8') ?? null;
  const configText = read('.config') ?? '';
  const config = parseKernelConfig(configText);
  const release = definition(read('include/generated/utsrelease.h'), 'UTS_RELEASE');
  if (release === null || !isKernelRelease(release)) {
    throw new KilnError(
      'bad-kernel',
      'the headers do not say which kernel release they are for (include/generated/utsrelease.h); send a prepared tree',
    );
  }
  const arch = archOf(config);
  if (arch === null) {
    throw new KilnError(
      'bad-kernel',
      'the headers’ .config names no architecture that Kiln knows; send the .config of the built kernel',
    );
  }
  const { moves, source, missing, ...laid } = layKernel({
    entries: scanned.entries,
    home,
    makefile: read('Makefile'),
    release,
  });
  mustKeepLinks(scanned, moves);
  const tree = layTree(scanned.entries, moves);
  const buildDirectory = laid.home;
  const symvers = tree.entries.find((entry) => entry.path === `${buildDirectory}/Module.symvers`);
  const kernel: Kernel = {
    digest: tree.digest,
    release,
    build:
      definition(read('include/generated/utsversion.h'), 'UTS_VERSION') ??
      definition(read('include/generated/compile.h'), 'UTS_VERSION'),
    arch,
    configDigest: digestOf(configText),
    options: optionsDigest(config),
    symversDigest: symvers?.kind === 'file' ? symvers.digest : null,
    compiler: config.get('CC_VERSION_TEXT') ?? '',
    contract: compilerContract(
      config,
      tree.entries.some(({ path }) => path === `${buildDirectory}/vmlinux`),
    ),
    vermagic: vermagicOf(release, config),
    marks: marksOf(config),
    signatureHash: signatureHashOf(config),
    buildDirectory: `/${buildDirectory}`,
    sourceDirectory: source,
    missing,
    hostPrograms: inspectHostPrograms(
      [...scanned.evidence].flatMap(([path, bytes]) =>
        isHostProgram(path) && movedPath(path, moves) !== null ? [bytes] : [],
      ),
    ),
  };
  return { kernel, tree, layout: moves };
};

const definition = (header: string | null, name: string): string | null =>
  new RegExp(`^#define ${name} "([^"\\n]*)"`, 'm').exec(header ?? '')?.[1] ?? null;

const findBuildTree = (scanned: ScannedTree): string => {
  const homes = [...scanned.evidence.keys()]
    .filter((path) => path === '.config' || path.endsWith('/.config'))
    .map((path) => path.slice(0, -'.config'.length).replace(/\/$/, ''))
    .filter((home) =>
      scanned.evidence.has(`${home === '' ? '' : `${home}/`}include/generated/utsrelease.h`),
    );
  if (homes.length === 0) {
    const hasConfig = [...scanned.evidence.keys()].some((path) => path.endsWith('.config'));
    throw new KilnError(
      'bad-kernel',
      hasConfig
        ? 'the headers have a .config but no include/generated/utsrelease.h beside it; send a prepared tree (make modules_prepare)'
        : 'the headers have no .config; send the tree that /lib/modules/RELEASE/build points to',
    );
  }
  if (homes.length > 1) {
    throw new KilnError(
      'bad-kernel',
      `the tarball has the headers of ${homes.length} kernels (${homes.slice(0, 3).join(', ')}); send one at a time`,
    );
  }
  return homes[0] ?? '';
};

/**
 * The directories of a kernel's tree that a sandbox mounts, each at its own path: those right below
 * `usr/src` and `usr/lib`, relative to the tree.
 */
export const kernelMounts = (tree: Pick<Tree, 'entries'>): readonly string[] => {
  const mounts = new Set<string>();
  for (const { path } of tree.entries) {
    const match = /^usr\/(?:src|lib)\/[^/]+(?=\/)/.exec(path);
    if (match !== null) mounts.add(match[0]);
  }
  return [...mounts].sort();
};
