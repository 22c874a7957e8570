import type { KernelConfig } from '../kernel/kernel-config.ts';
import type { ModuleSigner } from '../module/module-signer.ts';
import { hasCertificate, type EfiSignatures } from './efi-signatures.ts';
import type { KernelKey, KernelKeys } from './kernel-keys.ts';

/** What a machine's firmware and shim say. */
export interface Firmware {
  readonly isEfi: boolean;
  /** Whether its variables can be read at all. */
  readonly hasVariables: boolean;
  /** `null`: it cannot be read. */
  readonly secureBoot: boolean | null;
  readonly isSetupMode: boolean;
  /** shim's validation is switched off (`mokutil --disable-validation`): for the kernel, Secure Boot is off. */
  readonly isShimOff: boolean;
  /** The owner wants machine owner keys trusted (`MokListTrustedRT`). */
  readonly isMokTrusted: boolean;
  readonly db: EfiSignatures;
  readonly mok: EfiSignatures;
  /** Waits for MokManager's question at the next boot (`MokNew`). */
  readonly pending: EfiSignatures;
  /** `dbx` and `MokListXRT`. */
  readonly revoked: EfiSignatures;
}

/** The kernel’s lockdown level (`/sys/kernel/security/lockdown`). */
export type Lockdown = 'none' | 'integrity' | 'confidentiality';

/** What decides whether one kernel of a machine loads a module. `null` is what cannot be known. */
export interface LoadFacts {
  readonly release: string;
  /** Whether it is the kernel that runs now. */
  readonly isRunning: boolean;
  readonly config: KernelConfig | null;
  /** `ID` and `ID_LIKE` of `os-release`. */
  readonly distribution: readonly string[];
  readonly firmware: Firmware | null;
  /** Of the kernel that runs, like the next three. */
  readonly commandLine: string;
  readonly lockdown: Lockdown | null;
  readonly sigEnforce: boolean | null;
  readonly keys: KernelKeys | null;
}

/** Whether the firmware's Secure Boot is on as a kernel sees it (`efi_get_secureboot`). `null`: it cannot be known. */
export const isSecureBootOn = (firmware: Firmware | null): boolean | null => {
  if (firmware === null) return null;
  if (!firmware.isEfi || firmware.isSetupMode || firmware.isShimOff) return false;
  return firmware.secureBoot;
};

/** Whether a signer's certificate is among the machine owner keys. */
export const isEnrolled = ({ firmware }: LoadFacts, signer: ModuleSigner): boolean =>
  firmware !== null && hasCertificate(firmware.mok, signer.certificate);

/** Whether a signer's certificate waits for MokManager's question at the next boot. */
export const isPending = ({ firmware }: LoadFacts, signer: ModuleSigner): boolean =>
  firmware !== null && hasCertificate(firmware.pending, signer.certificate);

/** The running kernel's key of a signer. */
export const heldKey = ({ keys }: LoadFacts, { keyId }: ModuleSigner): KernelKey | null =>
  keys?.keys.find(({ id }) => id === keyId) ?? null;
