import { isSignatureHash } from './module-signature.ts';

/** What a token may be used for. Each role may do all that the ones before it may. */
export const ROLES = ['client', 'ci', 'admin'] as const;
export type Role = (typeof ROLES)[number];

/** Tells whether a role reaches another. */
export const roleReaches = (role: Role, needed: Role): boolean =>
  ROLES.indexOf(role) >= ROLES.indexOf(needed);

/** The higher of two roles: what was pushed by a client and later by an admin is the admin's. */
export const higherRole = (a: Role, b: Role): Role => (roleReaches(a, b) ? a : b);

/** Why a build may not be signed, or `null` if it may. */
export const refusalToSign = (build: {
  readonly sourceTrust: Role;
  readonly kernelTrust: Role;
  /** The kernel's `CONFIG_MODULE_SIG_HASH`. */
  readonly signatureHash: string;
}): string | null => {
  if (!roleReaches(build.sourceTrust, 'ci')) {
    return 'the source was not pushed by ci or an admin';
  }
  if (!roleReaches(build.kernelTrust, 'admin')) {
    return 'the kernel’s headers were not approved by an admin';
  }
  if (!isSignatureHash(build.signatureHash)) {
    return `the kernel wants signatures with ${build.signatureHash}, which Kiln does not make`;
  }
  return null;
};
