import { signatureHashOf, type KernelConfig } from '../kernel/kernel-config.ts';
import type { ModuleSigner } from '../module/module-signer.ts';
import { hasCertificate, isRevoked } from './efi-signatures.ts';
import { enforcement, type Finding } from './enforcement.ts';
import { heldKey, isEnrolled, isPending, type Firmware, type LoadFacts } from './load-facts.ts';
import { takesFromPlatform } from './platform-keyring.ts';

/** What a kernel will do with a signer's modules, why, and the one thing to do about it. */
export interface LoadVerdict {
  readonly verdict: 'loads' | 'taints' | 'refused' | 'unknown';
  readonly because: string;
  readonly next: string | null;
}

/**
 * Whether a kernel will load what a signer signs, by the rules of `module_sig_check` (`kernel/module/signing.c`), lockdown and the
 * keyrings (`certs/system_keyring.c`, `security/integrity/platform_certs`).
 */
export const loadVerdict = (facts: LoadFacts, signer: ModuleSigner): LoadVerdict => {
  const { release, config } = facts;
  if (config !== null && config.get('MODULE_SIG') !== 'y')
    return {
      verdict: 'loads',
      because: `kernel ${release} checks no signatures (CONFIG_MODULE_SIG is off)`,
      next: null,
    };
  if (facts.firmware !== null && isRevoked(facts.firmware.revoked, signer.certificate))
    return {
      verdict: 'refused',
      because: `the certificate ${signer.subject} is revoked in this machine’s firmware (dbx or MokListX)`,
      next: 'have the admin give the service another signing key, then run kiln setup',
    };
  const enforced = enforcement(facts);
  const verified = verification(facts, signer);
  if (verified.is === true) return { verdict: 'loads', because: verified.why, next: null };
  if (enforced.is === false)
    return {
      verdict: 'taints',
      because: `${verified.why}; it loads the module all the same, as ${enforced.why}, and marks itself as tainted`,
      next: isPending(facts, signer) ? FINISH : null,
    };
  const because = `${enforced.why}, and ${verified.why}`;
  const isRefused = enforced.is === true && verified.is === false;
  return { verdict: isRefused ? 'refused' : 'unknown', because, next: nextStep(facts, signer) };
};

/** Whether a kernel can verify what a signer signs, and takes its key. */
const verification = (facts: LoadFacts, signer: ModuleSigner): Finding => {
  const { release, firmware, keys } = facts;
  const problem = verificationProblem(facts.config, signer);
  if (problem !== null) return { is: false, why: `kernel ${release} ${problem}` };
  const held = heldKey(facts, signer);
  const isHeld = keys === null ? null : held !== null;
  const name = `the signer’s certificate (${signer.subject})`;
  const place = firmware === null ? null : placeInFirmware(firmware, signer);
  if (place !== null) {
    if (isHeld === false && facts.isRunning)
      return { is: false, why: `${name} is in ${place}, but the running kernel has not taken it` };
    const taken = takesKeys(facts, signer, place);
    const verb = taken === null ? 'may or may not take' : taken ? 'takes' : 'does not take';
    const far =
      taken === true
        ? ', as far as known'
        : taken === null && facts.config !== null
          ? ': it is not known to be this distribution’s own build, which has a patch for that'
          : '';
    return {
      is: taken,
      why: `${name} is in ${place}, from which kernel ${release} ${verb} module keys${far}`,
    };
  }
  if (held?.isFromFirmware === true && facts.isRunning)
    return {
      is: takesFromPlatform(facts) === true || null,
      why: `${name} came to the running kernel out of the firmware`,
    };
  if (held !== null && facts.isRunning)
    return { is: true, why: `${name} is in the running kernel’s own keyrings` };
  if (isHeld === false) return { is: false, why: `${name} is in none of this machine’s keyrings` };
  const hidden = facts.isRunning && keys === null ? ' (they are shown to root alone)' : '';
  return { is: null, why: `whether kernel ${release} holds ${name} cannot be read${hidden}` };
};

type Place = 'the machine owner keys (MOK)' | 'the firmware’s db';

const placeInFirmware = ({ mok, db }: Firmware, { certificate }: ModuleSigner): Place | null => {
  if (hasCertificate(mok, certificate)) return 'the machine owner keys (MOK)';
  return hasCertificate(db, certificate) ? 'the firmware’s db' : null;
};

/** Whether a kernel takes module keys from a place in the firmware. */
const takesKeys = (facts: LoadFacts, signer: ModuleSigner, place: Place): boolean | null => {
  const { config, firmware } = facts;
  const fromPlatform = takesFromPlatform(facts);
  if (fromPlatform === true) return true;
  if (config === null) return null;
  const isInMachine =
    place === 'the machine owner keys (MOK)' &&
    fitsMachineKeyring(config, signer) &&
    firmware?.isMokTrusted === true;
  return isInMachine || fromPlatform;
};

/** `.machine` is behind `.secondary_trusted_keys`, and may be for authorities alone (`security/integrity/Kconfig`). */
const fitsMachineKeyring = (config: KernelConfig, { isAuthority }: ModuleSigner): boolean =>
  config.get('INTEGRITY_MACHINE_KEYRING') === 'y' &&
  config.get('SECONDARY_TRUSTED_KEYRING') === 'y' &&
  (isAuthority || config.get('INTEGRITY_CA_MACHINE_KEYRING') !== 'y');

/** Whether enrolling a signer as a machine owner key could help a kernel: it takes such keys, or may. */
export const canEnrol = (facts: LoadFacts, signer: ModuleSigner): boolean =>
  takesFromPlatform(facts) !== false ||
  facts.config === null ||
  fitsMachineKeyring(facts.config, signer);

const RSA_BITS = [1024, 1536, 2048, 3072, 4096];
const HASH_OPTIONS: Readonly<Record<string, string>> = {
  sha1: 'CRYPTO_SHA1',
  sha224: 'CRYPTO_SHA256',
  sha256: 'CRYPTO_SHA256',
  sha384: 'CRYPTO_SHA512',
  sha512: 'CRYPTO_SHA512',
  'sha3-256': 'CRYPTO_SHA3',
  'sha3-384': 'CRYPTO_SHA3',
  'sha3-512': 'CRYPTO_SHA3',
};

/** How a kernel has the digest that its modules are signed with: `null` where it has not, or the digest is not one we know. */
export const hashSupport = (config: KernelConfig): 'built in' | 'as a module' | null => {
  const value = config.get(HASH_OPTIONS[signatureHashOf(config)] ?? '');
  if (value === 'y') return 'built in';
  return value === 'm' ? 'as a module' : null;
};

/** Why no key of this kind could be used by a kernel (`crypto/rsa.c`, `crypto/asymmetric_keys`), if so. */
const verificationProblem = (config: KernelConfig | null, signer: ModuleSigner): string | null => {
  if (signer.keyType === 'rsa' && !RSA_BITS.includes(signer.bits ?? 0))
    return `takes RSA keys of 1024 to 4096 bits, and the signer’s has ${signer.bits ?? 'none'}`;
  if (signer.keyType !== 'rsa' && config?.has('CRYPTO_ECDSA') !== true)
    return `cannot use the signer’s ${signer.keyType} key`;
  if (config !== null && hashSupport(config) === null)
    return `lacks ${signatureHashOf(config)}, which its modules are signed with`;
  return null;
};

const FINISH =
  'reboot and choose Enroll MOK in the screen that comes up: that finishes the enrolment';
/** The step where enrolling would not help. */
export const BUILD_IT_IN =
  'give this host a kernel that has the certificate built in (CONFIG_SYSTEM_TRUSTED_KEYS)';

/** The one step that brings a machine nearer to loading the signer's modules. */
const nextStep = (facts: LoadFacts, signer: ModuleSigner): string => {
  const { firmware, config, release } = facts;
  if (verificationProblem(config, signer) !== null)
    return 'have the admin sign with an RSA key of 2048, 3072 or 4096 bits and a digest that this kernel has';
  if (firmware === null) return 'run kiln doctor on the host itself, while it runs';
  if (isPending(facts, signer)) return FINISH;
  if (firmware.isEfi && !firmware.hasVariables)
    return 'run mount -t efivarfs efivarfs /sys/firmware/efi/efivars, then kiln doctor again';
  const place = placeInFirmware(firmware, signer);
  if (!firmware.isEfi) return facts.keys === null ? 'run kiln doctor as root' : BUILD_IT_IN;
  const taken = takesKeys(facts, signer, place ?? 'the machine owner keys (MOK)');
  if (place !== null && taken === true)
    return 'reboot through shim: a kernel takes the firmware’s keys when it starts';
  if (!canEnrol(facts, signer)) return BUILD_IT_IN;
  const wouldTake = config !== null && fitsMachineKeyring(config, signer);
  if (taken !== true && wouldTake && isEnrolled(facts, signer) && !firmware.isMokTrusted)
    return 'run mokutil --trust-mok, reboot and confirm it in the screen that comes up';
  if (place !== null && taken === null && config !== null)
    return 'install a module and load it: if modprobe says that its key was rejected, this kernel does not take the certificate from there';
  if (place !== null && taken === null)
    return `put the configuration of kernel ${release} where it can be read, /boot/config-${release}`;
  return 'run kiln enroll, then reboot and choose Enroll MOK in the screen that comes up';
};
