import { digestOf, type Digest } from '../digest.ts';
import type { Arch } from '../arch.ts';

/** A kernel's `.config`: option names without `CONFIG_`, values without quotes; what is not set is absent. */
export type KernelConfig = ReadonlyMap<string, string>;

/** Reads a `.config` as Kconfig writes it. Lines that are not `CONFIG_X=…` are comments. */
export const parseKernelConfig = (text: string): KernelConfig => {
  const options = new Map<string, string>();
  for (const line of text.split('\n')) {
    const match = /^CONFIG_([A-Za-z0-9_]+)=(.*)$/.exec(line);
    if (match?.[1] === undefined || match[2] === undefined) continue;
    options.set(match[1], match[2].replace(/^"(.*)"$/, '$1'));
  }
  return options;
};

/** Options about a kernel's signature and salt, which distributions leave out of the config that they ship with it. */
const OF_ONE_BUILD =
  /^(BUILD_SALT|MODULE_SIG_(ALL|KEY)|SYSTEM_(TRUSTED|REVOCATION)_KEYS|SYSTEM_TRUSTED_KEYRING)$/;

/**
 * A digest of what a kernel is configured to be: the same for the `.config` in its headers and for `/boot/config-RELEASE`, although their
 * bytes differ.
 */
export const optionsDigest = (config: KernelConfig): Digest =>
  digestOf(
    [...config]
      .filter(([name]) => !OF_ONE_BUILD.test(name))
      .map(([name, value]) => `${name}=${value}\n`)
      .sort()
      .join(''),
  );

const ARCH_OPTIONS: readonly (readonly [string, Arch])[] = [
  ['X86_64', 'x86_64'],
  ['X86_32', 'i686'],
  ['ARM64', 'aarch64'],
  ['ARM', 'armv7l'],
  ['PPC64', 'ppc64le'],
  ['S390', 's390x'],
  ['RISCV', 'riscv64'],
];

/** The architecture a `.config` is for, or `null` if it names none that Kiln knows. */
export const archOf = (config: KernelConfig): Arch | null =>
  ARCH_OPTIONS.find(([option]) => config.get(option) === 'y')?.[1] ?? null;

/**
 * The vermagic that this kernel's modules carry, without the trailing space
 * (source: `include/linux/vermagic.h`). With randstruct the kernel adds a hash that only a build knows.
 */
export const vermagicOf = (release: string, config: KernelConfig): string => {
  const isSet = (option: string): boolean => config.get(option) === 'y';
  const preempt = isSet('PREEMPT_BUILD') || (isSet('PREEMPT') && !isSet('PREEMPT_RT'));
  const words = [
    release,
    isSet('SMP') && 'SMP',
    preempt ? 'preempt' : isSet('PREEMPT_RT') && 'preempt_rt',
    isSet('MODULE_UNLOAD') && 'mod_unload',
    isSet('MODVERSIONS') && 'modversions',
    isSet('ARM64') && 'aarch64',
    isSet('RISCV') && 'riscv',
  ];
  return words.filter((word) => word !== false).join(' ');
};

/** The digest algorithm for module signatures: `CONFIG_MODULE_SIG_HASH`; DKMS's `sha512` where the kernel names none. */
export const signatureHashOf = (config: KernelConfig): string =>
  config.get('MODULE_SIG_HASH') ?? 'sha512';

/**
 * The modinfo besides vermagic that the kernel expects in its modules: it warns of a module without it, or refuses it
 * (source: `check_modinfo_retpoline`, `arch/x86`).
 */
export const marksOf = (config: KernelConfig): Readonly<Record<string, string>> =>
  config.get('RETPOLINE') === 'y' || config.get('MITIGATION_RETPOLINE') === 'y'
    ? { retpoline: 'Y' }
    : {};
