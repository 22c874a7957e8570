/** A certificate's key that the running kernel holds. */
export interface KernelKey {
  readonly subject: string;
  /** The subject key identifier, or the serial number of a certificate that has none: hex. */
  readonly id: string;
  /** Whether it came out of the firmware, into `.platform` or `.machine`, and not with the kernel. */
  readonly isFromFirmware: boolean;
}

/** The keys and system keyrings of a running kernel. */
export interface KernelKeys {
  readonly keyrings: readonly { readonly name: string; readonly count: number }[];
  readonly keys: readonly KernelKey[];
}

/** The keyrings that module signatures may be checked against, in the kernel's order. */
export const SYSTEM_KEYRINGS = [
  '.builtin_trusted_keys',
  '.secondary_trusted_keys',
  '.machine',
  '.platform',
] as const;

/** What `security/integrity/digsig.c` lets be done with a key; the kernel's own may also be read. */
const FIRMWARE_PERMISSIONS = '1f010000';

const LINE =
  /^[0-9a-f]+ +([A-Za-z-]+) +\d+ +\S+ +([0-9a-f]{8}) +-?\d+ +-?\d+ +(keyring|asymmetri) +(.*)$/;

/**
 * Reads `/proc/keys` (`proc_keys_show`, `security/keys/proc.c`). `null` if it does not show the system's keyrings: they are shown to root
 * alone. Keys that are revoked or dead are left out.
 */
export const parseKernelKeys = (text: string): KernelKeys | null => {
  const counts = new Map<string, number>();
  const keys: KernelKey[] = [];
  for (const line of text.split('\n')) {
    const [, flags = '', permissions, type, description = ''] = LINE.exec(line) ?? [];
    if (type === undefined || /[RD]/.test(flags)) continue;
    if (type === 'keyring') {
      const name = SYSTEM_KEYRINGS.find((each) => description.startsWith(`${each}: `));
      if (name === undefined) continue;
      const count = Number.parseInt(description.slice(name.length + 2), 10);
      counts.set(name, Number.isNaN(count) ? 0 : count);
      continue;
    }
    const [, subject = '', id = ''] = /^(.*): ([0-9a-f]+): \S+ /.exec(description) ?? [];
    if (id !== '') keys.push({ subject, id, isFromFirmware: permissions === FIRMWARE_PERMISSIONS });
  }
  if (counts.size === 0) return null;
  const keyrings = SYSTEM_KEYRINGS.flatMap((name) => {
    const count = counts.get(name);
    return count === undefined ? [] : [{ name, count }];
  });
  return { keyrings, keys };
};
