/** The bytes of RPM packages, changed as an attacker would (source: the RPM file format, version 4). */

/** The main header of a package, to be changed in place. */
export interface RpmHeaderBytes {
  readonly bytes: Buffer;
  /** Where it begins, and how many entries it has. */
  readonly main: number;
  readonly count: number;
  /** Where a tag's entry is, and its values. */
  entry(tag: number): number;
  at(tag: number): number;
  get(place: number): number;
  set(place: number, value: number): void;
  readonly payload: number;
}
/** Where things are in a package's main header. */
export const headerOf = (bytes: Buffer): RpmHeaderBytes => {
  const sizeAt = (at: number): number =>
    bytes.readUInt32BE(at + 8) * 16 + bytes.readUInt32BE(at + 12);
  const main = 96 + 16 + Math.ceil(sizeAt(96) / 8) * 8;
  const count = bytes.readUInt32BE(main + 8);
  const entry = (tag: number): number => {
    for (let at = main + 16; at < main + 16 + count * 16; at += 16)
      if (bytes.readUInt32BE(at) === tag) return at;
    throw new Error(`no tag ${tag}`);
  };
  return {
    bytes,
    main,
    count,
    entry,
    at: (tag) => main + 16 + count * 16 + bytes.readUInt32BE(entry(tag) + 8),
    get: (place) => bytes.readInt32BE(place),
    set: (place, value) => bytes.writeInt32BE(value, place),
    payload: main + 16 + sizeAt(main),
  };
};

/** A tag's type, how many values it has, and their bytes. */
export interface RpmValue {
  readonly type: number;
  readonly count: number;
  bytes: Buffer;
}
/** A text as a header has it. */
export const text = (of: string): Buffer => Buffer.from(`${of}\0`);
const INTEGERS: Readonly<Record<number, number>> = { 3: 2, 4: 4 };

/** A package with another main header, written in rpm's own form. */
export const rebuilt = (rpm: Buffer, change: (tags: Map<number, RpmValue>) => unknown): Buffer => {
  const { main, count, payload } = headerOf(rpm);
  const store = rpm.subarray(main + 16 + count * 16, payload);
  const entries = Array.from({ length: count }, (_, at) => main + 16 + at * 16);
  const tags = new Map<number, RpmValue>();
  for (const at of entries.slice(1)) {
    const [type, offset, items] = [4, 8, 12].map((field) => rpm.readUInt32BE(at + field)) as [
      number,
      number,
      number,
    ];
    let end = offset + items * (INTEGERS[type] ?? 0);
    if (INTEGERS[type] === undefined)
      for (let item = 0; item < items; item += 1) end = store.indexOf(0, end) + 1;
    tags.set(rpm.readUInt32BE(at), {
      type,
      count: items,
      bytes: Buffer.from(store.subarray(offset, end)),
    });
  }
  change(tags);
  let bytes = Buffer.alloc(0);
  const words: number[] = [];
  for (const [tag, value] of [...tags].toSorted(([one], [other]) => one - other)) {
    bytes = Buffer.concat([bytes, Buffer.alloc(-bytes.length & ((INTEGERS[value.type] ?? 1) - 1))]);
    words.push(tag, value.type, bytes.length, value.count);
    bytes = Buffer.concat([bytes, value.bytes]);
  }
  const region = (offset: number): Buffer => integers(63, 7, offset, 16);
  const all = tags.size + 1;
  return Buffer.concat([
    rpm.subarray(0, main),
    integers(0x8eade801 | 0, 0, all, bytes.length + 16),
    region(bytes.length),
    integers(...words),
    bytes,
    region(-all * 16),
    rpm.subarray(payload),
  ]);
};
const integers = (...values: readonly number[]): Buffer => {
  const bytes = Buffer.alloc(values.length * 4);
  values.forEach((value, at) => bytes.writeInt32BE(value, at * 4));
  return bytes;
};
