import type { ToolchainContents } from './measurement.ts';
import { contractBreaches, type ContractBreach } from './contract-breaches.ts';
import type { ContractPart } from '../kernel/compiler-contract.ts';
import type { Digest } from '../digest.ts';
import { KilnError } from '../errors.ts';
import { hasGlibc } from '../kernel/host-programs.ts';
import type { Kernel } from '../kernel/kernel.ts';

/**
 * A toolchain's life. A `pinned` one is chosen for builds; a `candidate` builds for those who name it; a `retired` one builds nothing new,
 * and what it has built can be rebuilt.
 */
export const TOOLCHAIN_STATES = ['measuring', 'refused', 'candidate', 'pinned', 'retired'] as const;
export type ToolchainState = (typeof TOOLCHAIN_STATES)[number];

/** A toolchain that may be chosen for a build. */
export interface ReadyToolchain {
  readonly digest: Digest;
  readonly name: string;
  readonly contents: ToolchainContents;
}

/** What a build asks of its toolchain. */
export interface ToolchainWish {
  /** The one toolchain that may be taken, where the request names it. */
  readonly digest?: Digest | undefined;
  /** Packages the source needs besides. */
  readonly needs: readonly string[];
  /** Whether rustc has anything of the source's to compile. */
  readonly hasRust: boolean;
  /** Parts of the compiler contract that the request waives. */
  readonly waived: readonly ContractPart[];
}

/** The toolchain for a build, and what of the contract it does not keep (all of it waived). */
export interface ChosenToolchain {
  readonly toolchain: ReadyToolchain;
  readonly breaches: readonly ContractBreach[];
}

/**
 * The toolchain for a kernel: same architecture, able to run the header tree's programs, with the packages the source needs, and
 * keeping the kernel's compiler contract in full but for what is waived. Of several, the one that breaks least, then the one with
 * the fewest packages, then the first (they come newest first). Throws `KilnError('no-toolchain')` naming the nearest and what it lacks.
 */
export const chooseToolchain = (
  toolchains: readonly ReadyToolchain[],
  kernel: Kernel,
  wish: ToolchainWish = { needs: [], hasRust: false, waived: [] },
): ChosenToolchain => {
  const asked =
    wish.digest === undefined
      ? toolchains
      : toolchains.filter(({ digest }) => digest === wish.digest);
  if (asked.length === 0) {
    const names = toolchains.map(({ name, digest }) => `${name} ${digest}`).join(', ') || 'none';
    throw refusal(
      wish.digest === undefined
        ? 'no toolchain is ready here; an admin adds one (kiln toolchain push)'
        : `toolchain ${wish.digest} is not ready here; those ready: ${names}`,
    );
  }
  const judged = asked
    .map((toolchain) => ({ toolchain, ...judge(toolchain, kernel, wish) }))
    .sort((a, b) => cost(a) - cost(b));
  const fitting = judged.find(({ obstacles }) => obstacles.length === 0);
  if (fitting !== undefined) return fitting;
  const nearest = judged
    .slice(0, 3)
    .map(
      ({ toolchain, obstacles }) =>
        `${toolchain.name}: ${obstacles.map(({ words }) => words).join('; ')}`,
    )
    .join(' | ');
  throw refusal(
    `no toolchain here fits kernel ${kernel.release}, built with "${kernel.compiler}". Nearest: ${nearest}. ${nextStep(judged[0])}`,
  );
};

interface Obstacle {
  readonly kind: 'arch' | 'host-programs' | 'packages' | 'contract';
  readonly words: string;
  readonly part?: ContractPart;
  readonly missing?: readonly string[];
}

type Judged = ChosenToolchain & { readonly obstacles: readonly Obstacle[] };

const judge = (
  { contents }: ReadyToolchain,
  kernel: Kernel,
  wish: ToolchainWish,
): { readonly obstacles: readonly Obstacle[]; readonly breaches: readonly ContractBreach[] } => {
  const obstacles: Obstacle[] = [];
  if (contents.arch !== kernel.arch) {
    obstacles.push({
      kind: 'arch',
      words: `it builds for ${contents.arch}, the kernel is for ${kernel.arch}`,
    });
  }
  const { arches, glibc } = kernel.hostPrograms;
  const foreign = arches.filter((arch) => arch !== contents.arch);
  if (foreign.length > 0) {
    obstacles.push({
      kind: 'host-programs',
      words: `the headers’ own programs are for ${foreign.join(', ')}, it runs ${contents.arch}`,
    });
  }
  const libc = /(\d+\.\d+)\s*$/.exec(contents.libc)?.[1] ?? '0';
  if (glibc !== null && !hasGlibc(libc, glibc)) {
    obstacles.push({
      kind: 'host-programs',
      words: `the headers’ own programs (modpost) need GLIBC ${glibc}, it has ${libc}`,
    });
  }
  const present = new Set(contents.packages.map(({ name }) => name));
  const missing = wish.needs.filter((name) => !present.has(name));
  if (missing.length > 0) {
    obstacles.push({
      kind: 'packages',
      words: `it lacks the packages ${missing.join(', ')}`,
      missing,
    });
  }
  const breaches = contractBreaches(kernel, contents).filter(
    ({ part }) => part !== 'rustc' || wish.hasRust,
  );
  for (const { part, words } of breaches) {
    if (!wish.waived.includes(part))
      obstacles.push({ kind: 'contract', part, words: `${part} should be ${words}` });
  }
  return { obstacles, breaches };
};

const WEIGHTS: Readonly<Record<Obstacle['kind'], number>> = {
  arch: 1e9,
  'host-programs': 1e7,
  contract: 1e5,
  packages: 1e4,
};

const cost = ({ toolchain, obstacles, breaches }: Judged): number =>
  obstacles.reduce((sum, { kind }) => sum + WEIGHTS[kind], breaches.length * 1e4) +
  toolchain.contents.packages.length;

const nextStep = (nearest: Judged | undefined): string => {
  const obstacles = nearest?.obstacles ?? [];
  const parts = obstacles.flatMap(({ part }) => (part === undefined ? [] : [part]));
  if (obstacles.every(({ kind }) => kind === 'contract'))
    return `Pin one that has it (kiln toolchain push), or build all the same with --waive ${parts.join(',')}`;
  const { name } = nearest?.toolchain ?? { name: '' };
  const packages = obstacles.flatMap(({ missing }) => missing ?? []);
  if (obstacles.every(({ kind }) => kind === 'packages' || kind === 'contract'))
    return `An admin makes one with those packages (images/make-toolchain images/${name} ${name}-more.tar ${packages.join(' ')}) and pins it (kiln toolchain push ${name}-more.tar --name ${name}-more)`;
  return 'An admin adds one that fits (kiln toolchain push)';
};

const refusal = (message: string): KilnError => new KilnError('no-toolchain', message);
