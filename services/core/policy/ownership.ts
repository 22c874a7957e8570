import { z } from 'zod';
import type { Role } from './policy.ts';

/** A pattern of names: letters, digits and `_ . + -`, and `*` for any text. */
export const NamePattern = z.string().regex(/^[A-Za-z0-9_.+*-]{1,64}$/, {
  error: 'a pattern of names is letters, digits and _ . + -, and * for any text',
});

/** Whether a name is one of a pattern's. */
export const isNamedBy = (pattern: string, name: string): boolean => {
  const parts = pattern.split('*').map((text) => text.replaceAll(/[.+-]/g, String.raw`\$&`));
  return new RegExp(`^${parts.join('.*')}$`).test(name);
};

/** A token as far as names are concerned. */
export interface NameHolder {
  readonly id: string;
  readonly name: string;
  readonly role: Role;
  /** Patterns of the names that an admin gave it; without any, it may take names that are nobody's. */
  readonly names: readonly string[];
}

/**
 * Why a token may not publish under a source's name, in words, or `null` if it may. A name is the token's that first published it
 * (an admin's: every admin's), and of each token that it was given to by a pattern. `others` are the other tokens that are valid.
 */
export const whyNotPublish = (
  name: string,
  by: NameHolder,
  owner: NameHolder | null,
  others: readonly NameHolder[],
): string | null => {
  const isGiven = (to: NameHolder): boolean => to.names.some((pattern) => isNamedBy(pattern, name));
  if (owner?.id === by.id || isGiven(by)) return null;
  if (owner !== null) {
    if (owner.role === 'admin' && by.role === 'admin') return null;
    return refusal(name, by, owner);
  }
  const holder = others.find(isGiven);
  if (holder !== undefined) return refusal(name, by, holder);
  if (by.names.length === 0) return null;
  return `this token may publish only ${by.names.join(', ')}; an admin can give it the name ${name} (kiln source give ${name} ${by.id})`;
};

const refusal = (name: string, by: NameHolder, owner: NameHolder): string =>
  `the name ${name} belongs to the token ${owner.name} (${owner.id.slice(0, 8)}); take another name, or have an admin give you this one (kiln source give ${name} ${by.id})`;
