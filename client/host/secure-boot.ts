import type { X509Certificate } from 'node:crypto';
import { gunzipSync } from 'node:zlib';
import {
  joinSignatures,
  NO_SIGNATURES,
  readEfiSignatures,
  type EfiSignatures,
} from '../../services/core/secure-boot/efi-signatures.ts';
import { parseKernelConfig, type KernelConfig } from '../../services/core/kernel/kernel-config.ts';
import { parseKernelKeys } from '../../services/core/secure-boot/kernel-keys.ts';
import type { Firmware, Lockdown, LoadFacts } from '../../services/core/secure-boot/load-facts.ts';
import { loadVerdict } from '../../services/core/secure-boot/load-verdict.ts';
import { moduleSigner } from '../../services/core/module/module-signer.ts';
import { readDistribution } from './distribution.ts';
import { isOnHost, readHostFile, readHostText } from './host-files.ts';
import { chooseRelease, type Host } from './host.ts';

const KiB = 1024;
const MiB = 1024 ** 2;
/** No firmware has room for more, nor a kernel for a longer list of keys. */
const VARIABLE_LIMIT = MiB;
const KEYS_LIMIT = 4 * MiB;
const CONFIG_LIMIT = 4 * MiB;
const LINE_LIMIT = 64 * KiB;

const GLOBAL = '8be4df61-93ca-11d2-aa0d-00e098032b8c';
const SECURITY_DATABASE = 'd719b2cb-3d3a-4596-a3bc-dad00e67656f';
const SHIM = '605dab50-e046-4300-abb6-3dd810dd8b23';

/** The kernel that is meant: the one named, the one that runs below the host's root, or the only one there. */
export const chooseKernel = async (host: Host, named: string | undefined): Promise<string> =>
  chooseRelease(
    host,
    named ?? (await readHostText(host, 'proc/sys/kernel/osrelease', LINE_LIMIT)) ?? undefined,
  );

/**
 * Reads the facts that decide whether a host's kernel loads a module. All of them are read below the host's root: a root without its
 * own /proc and /sys has no running kernel and no firmware.
 */
export const readLoadFacts = async (host: Host, release: string): Promise<LoadFacts> => {
  const text = (path: string): Promise<string | null> => readHostText(host, path, LINE_LIMIT);
  const isRunning = (await text('proc/sys/kernel/osrelease')) === release;
  const lockdown = /\[(none|integrity|confidentiality)\]/.exec(
    (await text('sys/kernel/security/lockdown')) ?? '',
  )?.[1];
  const sigEnforce = await text('sys/module/module/parameters/sig_enforce');
  const keys = await readHostText(host, 'proc/keys', KEYS_LIMIT);
  return {
    release,
    isRunning,
    config: await readConfig(host, release, isRunning),
    distribution: await readDistribution(host),
    firmware: await readFirmware(host),
    commandLine: (await text('proc/cmdline')) ?? '',
    lockdown: (lockdown as Lockdown | undefined) ?? null,
    sigEnforce: sigEnforce === null ? null : sigEnforce === 'Y',
    keys: keys === null ? null : parseKernelKeys(keys),
  };
};

/**
 * A warning for whoever is about to install: that the kernel will refuse this signer's modules, why, and what to do. `null` if the
 * kernel will load them, or if that cannot be known.
 */
export const loadWarning = async (
  host: Host,
  release: string,
  certificate: X509Certificate,
): Promise<string | null> => {
  const load = loadVerdict(await readLoadFacts(host, release), moduleSigner(certificate));
  if (load.verdict !== 'refused') return null;
  return `kernel ${release} will refuse the module: ${load.because}; ${load.next ?? ''}`;
};

const readConfig = async (
  host: Host,
  release: string,
  isRunning: boolean,
): Promise<KernelConfig | null> => {
  const text =
    (await readHostText(host, `boot/config-${release}`, CONFIG_LIMIT)) ??
    (await readHostText(host, `lib/modules/${release}/config`, CONFIG_LIMIT)) ??
    (isRunning ? await readPackedConfig(host) : null);
  return text === null ? null : parseKernelConfig(text);
};

const readPackedConfig = async (host: Host): Promise<string | null> => {
  const packed = await readHostFile(host, 'proc/config.gz', CONFIG_LIMIT);
  if (packed === null) return null;
  try {
    return gunzipSync(packed, { maxOutputLength: CONFIG_LIMIT }).toString('utf8');
  } catch {
    return null;
  }
};

/** The firmware's variables; `null` if the host has no /sys that shows them. */
const readFirmware = async (host: Host): Promise<Firmware | null> => {
  if (!(await isOnHost(host, 'sys/kernel'))) return null;
  const isSet = async (name: string, guid = SHIM): Promise<boolean | null> => {
    const value = await readVariable(host, name, guid);
    return value === null || value.length === 0 ? null : value[0] === 1;
  };
  const database = async (name: string, guid = SHIM): Promise<EfiSignatures> => {
    const value = await readVariable(host, name, guid);
    return value === null ? NO_SIGNATURES : readEfiSignatures(value);
  };
  return {
    isEfi: await isOnHost(host, 'sys/firmware/efi'),
    hasVariables: (await readVariable(host, 'SecureBoot', GLOBAL)) !== null,
    secureBoot: (await isSet('SecureBoot', GLOBAL)) ?? (await readBootParameter(host)),
    isSetupMode: (await isSet('SetupMode', GLOBAL)) === true,
    isShimOff: (await isSet('MokSBStateRT')) === true,
    isMokTrusted: (await readVariable(host, 'MokListTrustedRT', SHIM)) !== null,
    db: await database('db', SECURITY_DATABASE),
    mok: await readSplit(database, 'MokListRT'),
    pending: await database('MokNew'),
    revoked: joinSignatures([
      await database('dbx', SECURITY_DATABASE),
      await readSplit(database, 'MokListXRT'),
    ]),
  };
};

/** The offset of `secure_boot` in `struct boot_params` (`arch/x86/include/uapi/asm/bootparam.h`), and its values other than unset and unknown. */
const SECURE_BOOT_AT = 0x1ec;
const DISABLED = 2;
const ENABLED = 3;

/** Whether Secure Boot was on when the running x86 kernel was started, by its boot parameters; `null` where they do not say. */
const readBootParameter = async (host: Host): Promise<boolean | null> => {
  const parameters = await readHostFile(host, 'sys/kernel/boot_params/data', LINE_LIMIT);
  const said = parameters?.[SECURE_BOOT_AT];
  return said === DISABLED || said === ENABLED ? said === ENABLED : null;
};

const PARTS = 32;

/** A signature database that shim has split over several variables (`MokListRT`, `MokListRT1`, …), each of which can be read by itself. */
const readSplit = async (
  database: (name: string) => Promise<EfiSignatures>,
  name: string,
): Promise<EfiSignatures> => {
  const parts = [await database(name)];
  for (let part = 1; part < PARTS; part += 1) {
    const next = await database(`${name}${part}`);
    if (next === NO_SIGNATURES) break;
    parts.push(next);
  }
  return joinSignatures(parts);
};

/**
 * The value of an EFI variable: from the table that shim leaves the kernel, where it is there (root alone may read it), else from
 * efivarfs, whose files begin with four bytes of attributes.
 */
const readVariable = async (host: Host, name: string, guid: string): Promise<Buffer | null> => {
  const table = 'sys/firmware/efi/mok-variables';
  const value = guid === SHIM ? await readHostFile(host, `${table}/${name}`, VARIABLE_LIMIT) : null;
  if (value !== null) return value;
  const path = `sys/firmware/efi/efivars/${name}-${guid}`;
  return (await readHostFile(host, path, VARIABLE_LIMIT))?.subarray(4) ?? null;
};
