import { isSignatureHash } from '../module/module-signature.ts';
import type { ToolchainState } from '../toolchain/toolchain.ts';

/** What a token may be used for. Each role may do all that the ones before it may. */
export const ROLES = ['client', 'ci', 'admin'] as const;
export type Role = (typeof ROLES)[number];

/** Tells whether a role reaches another. */
export const roleReaches = (role: Role, needed: Role): boolean =>
  ROLES.indexOf(role) >= ROLES.indexOf(needed);

/** The builds that a token of a role may have with the builders, of `slots` that all of them run at once: a client leaves one free if it can. */
export const slotsOf = (role: Role, slots: number): number =>
  Math.max(1, role === 'client' ? slots - 1 : slots);

/** Who vouches for a tree: the highest role that pushed it, or a distribution's signed archive that it was verified from. */
export const TRUSTS = ['client', 'ci', 'archive', 'admin'] as const;
export type Trust = (typeof TRUSTS)[number];

/** Tells whether a tree’s trust is at least the one needed. */
export const trustReaches = (trust: Trust, needed: Trust): boolean =>
  TRUSTS.indexOf(trust) >= TRUSTS.indexOf(needed);

/**
 * Who may read what. ci and admins read everything. A client reads the builds that it asked for (states, logs, settings, modules: it asks
 * for them with what they are made of, so that it has a right to what comes of it), and what they are built against; the sources and
 * kernels that ci, an admin or a distribution's archive vouches for; and of the others those that it pushed itself.
 */
export const mayRead = (
  role: Role,
  what:
    | { readonly kind: 'build'; readonly isOwn: boolean }
    | { readonly kind: 'tree'; readonly trust: Trust; readonly isOwn: boolean },
): boolean =>
  roleReaches(role, 'ci') || what.isOwn || (what.kind === 'tree' && trustReaches(what.trust, 'ci'));

/** The higher of two trusts: a tree that a client pushed and later an admin has the admin's. */
export const higherTrust = (a: Trust, b: Trust): Trust => (trustReaches(a, b) ? a : b);

/** Why a build may not be signed, or `null` if it may. */
export const refusalToSign = (build: {
  readonly sourceTrust: Trust;
  readonly kernelTrust: Trust;
  readonly toolchainState: ToolchainState;
  /** The highest role that asked for it, and whether its request brought settings or waivers: they can change what is built. */
  readonly asker: Role;
  readonly isTailored: boolean;
  /** The kernel's `CONFIG_MODULE_SIG_HASH`. */
  readonly signatureHash: string;
}): string | null => {
  if (!trustReaches(build.sourceTrust, 'ci')) {
    return 'the source was neither pushed by ci or an admin nor verified from a distribution’s archive';
  }
  if (!trustReaches(build.kernelTrust, 'archive')) {
    return 'the kernel’s headers were neither verified from a distribution’s archive nor approved by an admin';
  }
  if (build.toolchainState !== 'pinned')
    return `the toolchain is ${build.toolchainState}, not pinned`;
  if (build.isTailored && !roleReaches(build.asker, 'ci'))
    return 'the request brought settings or waivers, and was not made by ci or an admin';
  if (!isSignatureHash(build.signatureHash)) {
    return `the kernel wants signatures with ${build.signatureHash}, which Kiln does not make`;
  }
  return null;
};
