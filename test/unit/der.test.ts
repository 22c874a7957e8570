import { describe, expect, it } from '@jest/globals';
import { der, derOid, readDer, TAG } from '../../services/core/format/der.ts';

describe('a DER element', () => {
  it.each([
    [0, '0400'],
    [127, '047f'],
    [128, '048180'],
    [255, '0481ff'],
    [256, '04820100'],
    [65_536, '0483010000'],
  ])('of %d bytes is written with the shortest length', (length, head) => {
    const element = der(TAG.octets, Buffer.alloc(length, 0xaa));
    expect(element.subarray(0, -length || undefined).toString('hex')).toBe(head);
    expect(element).toHaveLength(head.length / 2 + length);
  });

  it('holds its parts one behind the other', () => {
    const element = der(TAG.sequence, der(TAG.integer, Buffer.from([1])), der(TAG.null));
    expect(element.toString('hex')).toBe('30050201010500');
  });

  it.each([
    ['1.2.840.113549.1.7.2', '06092a864886f70d010702'],
    ['1.2.840.113549.1.1.1', '06092a864886f70d010101'],
    ['2.16.840.1.101.3.4.2.1', '0609608648016503040201'],
    ['2.5.4.3', '0603550403'],
    ['1.3.6.1.4.1.4294967295', '060a2b060104018fffffff7f'],
  ])('of the object identifier %s is %s', (dotted, hex) => {
    expect(derOid(dotted).toString('hex')).toBe(hex);
  });
});

describe('reading DER', () => {
  it.each([0, 127, 128, 256, 65_536])('gives back what was written of %d bytes', (length) => {
    const one = der(TAG.octets, Buffer.alloc(length, 7));
    const two = derOid('2.5.4.3');
    const read = readDer(Buffer.concat([one, two]));
    expect(read.map(({ tag }) => tag)).toEqual([TAG.octets, TAG.oid]);
    expect(read.map(({ raw }) => raw)).toEqual([one, two]);
    expect(read[0]?.value).toEqual(Buffer.alloc(length, 7));
  });

  it('finds nothing in nothing', () => {
    expect(readDer(Buffer.alloc(0))).toEqual([]);
  });

  it.each([
    ['a tag alone', '04'],
    ['a value cut short', '040301'],
    ['a second element cut short', '0500040301'],
    ['a long length cut short', '048201'],
    ['a long value cut short', '04820100ff'],
    ['an endless length', '0480ff0000'],
    ['a length of five bytes', '04850000000001ff'],
    ['a length of four gigabytes', '0484ffffffff00'],
  ])('refuses %s', (_, hex) => {
    // Node's own RangeErrors come from outside jest's realm, so they are known by name.
    expect(() => readDer(Buffer.from(hex, 'hex'))).toThrow(
      expect.objectContaining({ name: 'RangeError' }),
    );
  });
});
