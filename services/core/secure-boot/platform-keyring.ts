import type { KernelConfig } from '../kernel/kernel-config.ts';
import type { KernelKeys } from './kernel-keys.ts';

/** What shows whose build a kernel is. `null` is what cannot be known. */
export interface KernelOrigin {
  readonly release: string;
  readonly isRunning: boolean;
  readonly config: KernelConfig | null;
  /** Of the kernel that runs. */
  readonly keys: KernelKeys | null;
  /** `ID` and `ID_LIKE` of `os-release`. */
  readonly distribution: readonly string[];
}

/**
 * Distributions whose kernels check modules against `.platform` (`db` and MOK) too, by a patch of theirs; Linux itself does not.
 * Those that name one of them in `ID_LIKE` do as it does, as far as known.
 */
const PATCHED: readonly string[] = ['debian', 'ubuntu', 'fedora', 'rhel', 'centos', 'suse'];
/** Whose keys such a distribution's kernels have built in. */
const VENDORS =
  /\b(Debian|Canonical|Ubuntu|Fedora|Red Hat|CentOS|Rocky|AlmaLinux|Oracle|(open)?SUSE)\b/;

/**
 * Whether a kernel is known to be a distribution's own build: the running one has the distribution's keys built in; the configuration has
 * Ubuntu's signature, or the release as its salt (Fedora, Enterprise Linux), or no salt, as Debian ships it. Kconfig writes an empty one.
 */
const isDistributionBuild = ({ isRunning, keys, config, release }: KernelOrigin): boolean => {
  const isVendors = keys?.keys.some((key) => !key.isFromFirmware && VENDORS.test(key.subject));
  if (isRunning && isVendors === true) return true;
  if (config === null) return false;
  const salt = config.get('BUILD_SALT');
  return (
    config.get('VERSION_SIGNATURE')?.startsWith('Ubuntu ') === true ||
    salt === undefined ||
    salt === release
  );
};

/** Whether a kernel takes module keys from wherever in the firmware they are; `null` where nothing shows whether it has the patch. */
export const takesFromPlatform = (facts: KernelOrigin): boolean | null => {
  const { config, distribution } = facts;
  if (!distribution.some((id) => PATCHED.includes(id))) return false;
  if (config !== null && config.get('INTEGRITY_PLATFORM_KEYRING') !== 'y') return false;
  return isDistributionBuild(facts) || null;
};
