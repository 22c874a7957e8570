/** ASN.1 DER (X.690), as much of it as a kernel module's signature holds. */

/** A type, a length and a value. */
export const der = (tag: number, ...parts: readonly Uint8Array[]): Buffer => {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from([tag]), derLength(body.length), body]);
};

const derLength = (length: number): Buffer => {
  if (length < 0x80) return Buffer.from([length]);
  const digits = length.toString(16);
  const bytes = Buffer.from(digits.length % 2 === 0 ? digits : `0${digits}`, 'hex');
  return Buffer.concat([Buffer.from([0x80 | bytes.length]), bytes]);
};

/** Tags used here. */
export const TAG = {
  integer: 0x02,
  octets: 0x04,
  null: 0x05,
  oid: 0x06,
  sequence: 0x30,
  set: 0x31,
  context0: 0xa0,
} as const;

/** An object identifier from its dotted form. */
export const derOid = (dotted: string): Buffer => {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const arc of rest) {
    const digits = [arc & 0x7f];
    for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128)) {
      digits.unshift((left & 0x7f) | 0x80);
    }
    bytes.push(...digits);
  }
  return der(TAG.oid, Buffer.from(bytes));
};

/** One element as it stands in some DER: its tag, its value, and all of its bytes. */
export interface DerElement {
  readonly tag: number;
  readonly value: Buffer;
  readonly raw: Buffer;
}

/** The elements that lie side by side in some DER. Throws `RangeError` on anything malformed. */
export const readDer = (bytes: Buffer): readonly DerElement[] => {
  const elements: DerElement[] = [];
  let at = 0;
  while (at < bytes.length) {
    const tag = bytes.readUInt8(at);
    let length = bytes.readUInt8(at + 1);
    let start = at + 2;
    if (length >= 0x80) {
      const size = length & 0x7f;
      if (size === 0 || size > 4) throw new RangeError('the DER encoding has an invalid length');
      length = bytes.readUIntBE(start, size);
      start += size;
    }
    if (start + length > bytes.length)
      throw new RangeError('the DER encoding ends within an element');
    elements.push({
      tag,
      value: bytes.subarray(start, start + length),
      raw: bytes.subarray(at, start + length),
    });
    at = start + length;
  }
  return elements;
};
