declare const value: unique symbol;

/** A column of text that holds a `T` as JSON. */
export type JsonText<T> = string & { readonly [value]: T };

/** A value as the text of a column. */
export const toJson = <T>(written: T): JsonText<T> => JSON.stringify(written) as JsonText<T>;

/** The value that `toJson` wrote. The record is this service's own: what stands in it was checked before it was written. */
export const fromJson = <T>(text: JsonText<T>): T => JSON.parse(text) as T;
