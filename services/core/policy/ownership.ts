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

/** Who names can belong to: a token, or an archive that is followed. */
export interface NameHolder {
  readonly id: string;
  readonly name: string;
  readonly role: Role | 'archive';
  /** Patterns of the names that an admin gave it; without any, it may take names that are nobody's. */
  readonly names: readonly string[];
}

const ARCHIVE = 'archive:';

/** The id of an archive where tokens have theirs: as an owner of names, and as a maker of records. */
export const archiveId = (archive: string): string => `${ARCHIVE}${archive}`;

/** The archive that an id is of; `null` for a token's, and for what the service calls itself. */
export const archiveOf = (id: string): string | null =>
  id.startsWith(ARCHIVE) ? id.slice(ARCHIVE.length) : null;

/** An archive as a holder of names. */
export const archiveHolder = (archive: string): NameHolder => ({
  id: archiveId(archive),
  name: archive,
  role: 'archive',
  names: [],
});

/**
 * Why somebody may not publish under a source's name, in words, or `null` if they may. A name is its that first published it (an
 * admin's: every admin's; an archive's: every archive's), and of each token that it was given to by a pattern. `others` are the other
 * tokens that are valid.
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
    if (owner.role === by.role && SHARED.has(by.role)) return null;
    return refusal(name, by, owner);
  }
  const holder = others.find(isGiven);
  if (holder !== undefined) return refusal(name, by, holder);
  if (by.names.length === 0) return null;
  return `this token may publish only ${by.names.join(', ')}; an admin can give it the name ${name} (kiln source give ${name} ${by.id})`;
};

/** Roles whose names are those of all who have the role. */
const SHARED: ReadonlySet<NameHolder['role']> = new Set(['admin', 'archive']);

const refusal = (name: string, by: NameHolder, owner: NameHolder): string => {
  const whose =
    owner.role === 'archive'
      ? `the archive ${owner.name}`
      : `the token ${owner.name} (${owner.id.slice(0, 8)})`;
  const give = `kiln source give ${name} ${by.id}`;
  return by.role === 'archive'
    ? `the name ${name} belongs to ${whose}; hosts that have the package get its modules, and nobody does by that name, unless an admin gives it to the archive (${give})`
    : `the name ${name} belongs to ${whose}; take another name, or have an admin give you this one (${give})`;
};
