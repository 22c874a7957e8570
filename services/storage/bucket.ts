/** What is known of an object. */
export interface ObjectInfo {
  readonly key: string;
  readonly size: number;
  /** When it was stored, by the server's clock: milliseconds since 1970, often in whole seconds. */
  readonly storedAt: number;
}

/** What an object is to hold. */
export interface ObjectContent {
  /** 64 hex digits; the server refuses other bytes. */
  readonly sha256: string;
  readonly size: number;
  /** The bytes from their first on, as often as it is called. */
  pieces(): AsyncIterable<Buffer>;
}

/** An object's bytes as the server sends them. */
export interface ObjectBytes {
  /** All of the object's bytes, as the server says. */
  readonly size: number;
  /** By which the same bytes are known again; empty if the server has none. */
  readonly etag: string;
  /** The next of them; `null` at the end. A reader may take its time between two calls. */
  next(): Promise<Buffer | null>;
  close(): void;
}

/**
 * Objects in a bucket. All of it throws `KilnError`, mostly `unavailable`, whose sentence says what is wrong: with the server, the way
 * to it, or the settings. What fails for a moment is tried again, so that an act may be done twice unless it is said otherwise.
 */
export interface Bucket {
  /** Stores an object, whole or not at all. */
  put(key: string, content: ObjectContent): Promise<void>;
  /** `null` if there is none. A bucket that is not there is not told from it. */
  find(key: string): Promise<ObjectInfo | null>;
  /** An object's bytes from one of them on; `null` if there is no object. Throws where `etag` is given and the object has another. */
  get(key: string, from?: number, etag?: string): Promise<ObjectBytes | null>;
  /** Removes an object; one that is not there is no error. */
  remove(key: string): Promise<void>;
  /** The same by one request alone. Where it throws, nobody knows whether the object is gone, or still will be. */
  removeOnce(key: string): Promise<void>;
  /** All objects whose keys begin so, without those of which the server says nothing that makes sense. */
  list(prefix: string): AsyncIterable<ObjectInfo>;
}
