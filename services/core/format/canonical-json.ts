/** Values with a canonical form: JSON without fractions, whose notation could differ. */
export type Canonical =
  null | boolean | number | string | readonly Canonical[] | { readonly [key: string]: Canonical };

/**
 * The canonical JSON of a value (RFC 8785): no spaces, object keys in UTF-16 code unit order.
 * Numbers must be safe integers; anything else throws `TypeError`.
 */
export const canonicalJson = (value: Canonical): string => {
  if (typeof value === 'number' && !Number.isSafeInteger(value)) {
    throw new TypeError(`not a safe integer: ${value}`);
  }
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  const object = value as { readonly [key: string]: Canonical };
  const members = Object.keys(object)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${canonicalJson(object[key] ?? null)}`);
  return `{${members.join(',')}}`;
};

/** Whether two values have the same canonical JSON; a value without one equals no other. */
export const isSameJson = (one: unknown, other: unknown): boolean => {
  try {
    return canonicalJson(one as Canonical) === canonicalJson(other as Canonical);
  } catch {
    return false;
  }
};
